#![forbid(unsafe_code)]
//! Looks at a library, or loads it, in a process of its own: `probe inspect|load LIBRARY`, `probe overwrite inode|copy
//! LIBRARY`; or says what it takes of its environment: `probe environment`.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cachekit::{Config, Environment, Sources};
use cachekit_core::blocking::wait;
use cachekit_host::{LoadMode, Plugin, Policy, Process};
use cachekit_plugin::{Cx, HostServices, Key, Ttl};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["inspect", library] => println!("{:?}", cachekit_host::inspect(library.as_ref()).unwrap()),
        ["load", library] => {
            let plugin = Plugin::open(library.as_ref(), &Policy::default()).unwrap();
            println!("{:?}", plugin.identity());
        }
        ["overwrite", mode, library] => overwrite(mode.parse().unwrap(), library.as_ref()),
        ["environment"] => {
            let config = Config::resolve(&Sources { environment: Environment::of_process(), ..Sources::default() });
            let path = config.unwrap().plugin_trust.path().value.clone();
            println!("privileged={} path={path:?}", Process::current().privileged);
        }
        other => panic!("no such verb: {other:?}"),
    }
}

/// Loads a library, cuts its file to nothing, and goes on using it.
fn overwrite(mode: LoadMode, library: &Path) {
    let plugin = Plugin::open(library, &Policy::default().with_load_mode(mode)).unwrap();
    let backend = plugin.create(b"", HostServices::none()).unwrap();
    let cx = Cx::within(Duration::from_secs(5));
    wait(async { backend.set(Key::from_wire(b"k"), Bytes::from_static(b"still there"), Ttl::Never, &cx).await })
        .unwrap();
    std::fs::File::options().write(true).open(library).unwrap().set_len(0).unwrap();
    let found = wait(async { backend.get(Key::from_wire(b"k"), &cx).await }).unwrap();
    println!("{}", String::from_utf8_lossy(&found.unwrap()));
}
