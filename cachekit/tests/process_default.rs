//! The backend of the process: below what code names, above the environment and the file. One test, because it is one
//! setting of the whole process.

use std::sync::Arc;

use cachekit::plugin::Backend;
use cachekit::{Config, Sources};
use cachekit_conformance::{Memory, MemoryConfig};

#[test]
fn the_default_backend_goes_over_the_configuration_and_yields_to_code() {
    let dir = tempfile::tempdir().unwrap();
    let (file, store) = (dir.path().join("cachekit.toml"), dir.path().join("store"));
    std::fs::write(&file, format!("[[tier]]\nbackend = \"file://{}\"\n", store.display())).unwrap();
    let configured = Config::resolve(&Sources { file: Some(file.clone()), ..Sources::default() }).unwrap();
    let of = |config: &Config| {
        let cache = cachekit::open(config).unwrap().blocking();
        cache.health().tier.unwrap().unwrap().backend_type
    };
    assert_eq!(of(&configured), "file");

    let memory: Arc<dyn Backend> = Arc::new(Memory::new(MemoryConfig::default()));
    cachekit::set_default_backend(Some(Arc::clone(&memory)));
    assert_eq!(of(&configured), "memory");
    assert_eq!(of(&Config::default()), "memory", "no backend is named and none is needed");
    // Caches share it, also ones that other threads open.
    let writer = cachekit::open(&configured).unwrap().blocking();
    writer.set("k", &7_u32).unwrap();
    let read = std::thread::spawn(move || cachekit::from_file(file).unwrap().blocking().get::<u32>("k").unwrap());
    assert_eq!(read.join().unwrap().as_deref(), Some(&7));

    // Named in code: `--backend` and the builder.
    let url = format!("file://{}", store.display());
    let named = Config::resolve(&Sources { backend: Some(url.clone()), ..Sources::default() }).unwrap();
    assert_eq!(of(&named), "file");
    let builder = cachekit::builder(&configured).unwrap().backend(cachekit::backend(&url).unwrap());
    assert_eq!(builder.build().unwrap().blocking().health().tier.unwrap().unwrap().backend_type, "file");
    assert!(cachekit::backend("none").err().unwrap().to_string().contains("no backend"));

    cachekit::set_default_backend(None);
    assert_eq!(of(&configured), "file");
    assert_eq!(*writer.get::<u32>("k").unwrap().unwrap(), 7, "what is open keeps what it has");
    assert!(cachekit::open(&Config::default()).unwrap().blocking().health().tier.is_none());
}
