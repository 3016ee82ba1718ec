//! This client against a real server of the protocol, `cachekit serve`, over real TLS.

mod faults;
mod leases;
mod served;

use std::sync::Arc;
use std::time::Duration;

use cachekit_conformance::{Harness, run_all};
use cachekit_plugin::{Bytes, Cx, Key, Ttl};
use cachekit_serve::KeyRule;

use served::Served;

#[test]
fn the_conformance_table_holds_over_a_real_server() {
    let report = run_all(Arc::new(Served::start(KeyRule::Any)), |_| true);
    let not_asked: Vec<&str> =
        report.cases.iter().filter(|case| case.skipped_because.is_some()).map(|case| &*case.name).collect();
    println!(
        "cachekitio over cachekit serve: {} passed, {} failed; not asked: {not_asked:?}",
        report.passed, report.failed
    );
    assert!(report.is_ok(), "{report}");
}

/// What the engine makes of keys and namespaces goes to a server with the service's own alphabet.
#[test]
fn keys_of_this_project_are_taken_by_the_services_own_alphabet() {
    let served = Served::start(KeyRule::CachekitIo);
    let backend = served.open().unwrap();
    let keys: Vec<Vec<u8>> = [
        &b"ck:app:plain"[..],
        b"ck:app:user@example.org",
        b"ck:app:a/b?c#d%20e",
        b"ck:app:..",
        b"ck:app:#0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        &[b"ck:".as_slice(), &[b'@'; 397]].concat(),
        &[b"ck:".as_slice(), &[b'%'; 397]].concat(),
        b"users:get_user:abc",
    ]
    .map(<[u8]>::to_vec)
    .into();
    served.runtime.block_on(async {
        let cx = Cx::within(Duration::from_secs(30));
        for key in &keys {
            backend.set(Key::from_wire(key), key.clone().into(), Ttl::Never, &cx).await.unwrap();
        }
        for key in &keys {
            let found = backend.get(Key::from_wire(key), &cx).await.unwrap();
            assert_eq!(found.as_deref(), Some(&**key));
        }
        let foreign = backend.set(Key::from_wire(b"users:a b"), Bytes::new(), Ttl::Never, &cx).await.unwrap_err();
        assert!(foreign.message().contains("A-Z a-z 0-9"), "{foreign}");
    });
}
