#![forbid(unsafe_code)]
//! Looks at a library, or loads it, in a process of its own: `probe inspect|load LIBRARY`.

use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, library] = arguments.as_slice() else { panic!("usage: probe inspect|load LIBRARY") };
    let library = Path::new(library);
    match what.as_str() {
        "inspect" => println!("{:?}", cachekit_host::inspect(library).unwrap()),
        "load" => {
            let plugin = cachekit_host::Plugin::open(library, &cachekit_host::Policy::default()).unwrap();
            println!("{:?}", plugin.identity());
        }
        other => panic!("no such verb: {other}"),
    }
}
