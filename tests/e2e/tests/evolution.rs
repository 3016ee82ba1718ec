//! A plugin of tomorrow in the host of today: what the host does not know is not used, and nothing is taken for what it is not.
//! And what a library shows of itself: its entry alone, so that two of them never meet in a name.

use bytes::Bytes;
use cachekit_core::blocking::wait;
use cachekit_e2e::{Place, artifacts};
use cachekit_host::{Plugin, Policy, inspect};
use cachekit_plugin::{Cx, Enumerates, HostServices, Key, KeyBytes, Ttl};

#[test]
fn a_plugin_of_tomorrow_works_in_the_host_of_today() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, Some("FUTURE"));
    assert_eq!(inspect(&library).unwrap().identity.abi, "1.7", "a later minor version, and fields that nobody knows");
    let plugin = Plugin::open(&library, &Policy::default()).unwrap();
    let backend = plugin.create(b"", HostServices::none()).unwrap();
    // An alphabet and a way to enumerate that nobody has heard of are taken as the narrowest there is.
    let limits = backend.limits();
    assert_eq!((limits.key_bytes, limits.enumerates), (KeyBytes::Printable, Enumerates::No));
    let cx = Cx::within(std::time::Duration::from_secs(10));
    wait(async { backend.set(Key::from_wire(b"k"), Bytes::from_static(b"v"), Ttl::Never, &cx).await }).unwrap();
    let found = wait(async { backend.get(Key::from_wire(b"k"), &cx).await }).unwrap();
    assert_eq!(found.as_deref(), Some(&b"v"[..]));
    drop(backend);
    let cache = cachekit::Cache::builder().backend(plugin.create(b"", HostServices::none()).unwrap()).build().unwrap();
    cache.blocking().set("a", &1_u32).unwrap();
}

#[test]
fn a_library_exports_its_entry_and_nothing_else() {
    let place = Place::new();
    let libraries = [
        artifacts::file_plugin(),
        artifacts::redis_plugin(),
        artifacts::memcached_plugin(),
        artifacts::cachekitio_plugin(),
        artifacts::memory_plugin(),
        artifacts::chaos_plugin(),
        artifacts::c_memory(),
        artifacts::zig_memory(),
        artifacts::http_plugin(),
        artifacts::dynamodb_plugin(),
    ];
    for library in libraries {
        let found = inspect(library).unwrap();
        assert_eq!(found.exports, [found.identity.entry], "{library:?}");
    }
    // The control: a function that was not hidden.
    let talkative = artifacts::bad_c(&place, Some("TALKATIVE"));
    assert_eq!(inspect(&talkative).unwrap().exports, ["bad_c_helper", "cachekit_plugin_v1"]);
}
