//! Sides that know more than each other: a plugin of tomorrow in the host of today, and plugins of today in a host of tomorrow, or in
//! one that has nothing to offer. What the other side does not know is not used, and nothing is taken for what it is not.
//! And what a library shows of itself: its entry alone, so that two of them never meet in a name.

mod tomorrow;

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
fn plugins_of_today_work_in_a_host_of_tomorrow_and_in_one_that_offers_nothing() {
    let place = Place::new();
    let dir = serde_json::json!({ "dir": place.path().join("store") }).to_string();
    for (library, options, in_rust) in [
        (artifacts::memory_plugin().to_owned(), "", true),
        (artifacts::file_plugin().to_owned(), &*dir, true),
        (artifacts::chaos_plugin().to_owned(), r#"{"mode":"none","counts":true,"greeting":"hello"}"#, true),
        (artifacts::c_memory().to_owned(), "", false),
        (artifacts::zig_memory().to_owned(), "", false),
        (artifacts::bad_c(&place, None), "", false),
        (artifacts::bad_c(&place, Some("ASYNC_GOOD")), "", false),
    ] {
        let entry = inspect(&library).unwrap().identity.entry;
        for offers in [tomorrow::Offers::Nothing, tomorrow::Offers::MoreThanIsKnown] {
            let asked = tomorrow::use_it(&library, &entry, options, offers);
            // The SDK asks for what it could use, and for nothing that is not in the contract.
            assert!(asked.iter().all(|id| tomorrow::KNOWN.contains(&id.as_str())), "{library:?}: {asked:?}");
            assert_eq!(asked.is_empty(), !in_rust, "{library:?}: {asked:?}");
        }
    }
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
