//! Expiry, leases, versions, scans and clears, one caller at a time.

use cachekit_plugin::Kind;
use cachekit_plugin::blocking::Wanted;

use super::*;
use crate::error::FileError;
use crate::write::Condition;

#[test]
fn an_entry_lives_until_its_second_and_then_its_file_goes() {
    let bench = Bench::new();
    bench.set("k", "value", secs(10));
    // To the second in which Python ends it; the clock stands a quarter of a second into one.
    assert_eq!(bench.ttl("k"), Ttl::from_ms(9_750));
    bench.hands.advance(9_749);
    assert_eq!(bench.get("k").unwrap(), "value");
    bench.hands.advance(1);
    assert_eq!(bench.get("k"), None);
    assert_eq!(bench.names(), [""; 0]);
}

#[test]
fn a_short_life_is_never_over_early() {
    let bench = Bench::new();
    bench.set("k", "value", Ttl::from_ms(900).unwrap());
    bench.hands.advance(900);
    assert_eq!(bench.get("k").unwrap(), "value");
}

#[test]
fn renewing_counts_from_now_and_finds_only_what_lives() {
    let bench = Bench::new();
    bench.set("k", "value", secs(10));
    bench.hands.advance(5_000);
    assert!(bench.touch("k", secs(10)));
    bench.hands.advance(9_000);
    assert_eq!(bench.get("k").unwrap(), "value");
    assert!(bench.touch("k", Ttl::Never));
    assert_eq!(bench.ttl("k"), Some(Ttl::Never));
    bench.set("gone", "value", secs(1));
    bench.hands.advance(2_000);
    assert!(!bench.touch("gone", secs(10)));
    assert!(!bench.delete("gone"));
    assert!(!bench.touch("absent", secs(10)));
    assert_eq!(bench.ttl("absent"), None);
}

#[test]
fn a_lease_has_one_holder_and_only_its_token_gives_it_back() {
    let bench = Bench::new();
    let other = bench.peer(true);
    assert!(bench.lock("k", "mine", 1_000));
    assert!(!other.lock("k", "theirs", 1_000));
    assert!(other.lock("another key", "theirs", 1_000));
    assert!(!other.unlock("k", "theirs"));
    assert!(bench.unlock("k", "mine"));
    assert!(!bench.unlock("k", "mine"));
    assert!(other.lock("k", "theirs", 1_000));
    bench.hands.advance(1_000);
    assert!(!other.unlock("k", "theirs"), "it ended");
    assert!(bench.lock("k", "mine", u64::MAX));
    assert!(!other.lock("k", "theirs", 1));
}

#[test]
fn leases_are_hidden_from_scans_and_clears_and_the_token_is_not_on_disk() {
    let bench = Bench::new();
    assert!(bench.lock("k", "a secret token", 1_000));
    assert!(bench.page(None, 100).items.is_empty());
    assert_eq!(bench.clear(), 0);
    assert!(!bench.lock("k", "other", 1_000));
    for name in bench.all_names() {
        let content = std::fs::read(bench.dir.join(name)).unwrap();
        assert!(!content.windows(8).any(|window| window == b"a secret"));
    }
}

#[test]
fn a_torn_lease_is_no_lease() {
    let bench = Bench::new();
    assert!(bench.lock("k", "mine", 1_000));
    let path = bench.dir.join(format!(".lock.{}", Name::of(key("k")).as_str()));
    let mut record = std::fs::read(&path).unwrap();
    record[3] ^= 1;
    std::fs::write(&path, record).unwrap();
    assert!(!bench.unlock("k", "mine"));
    assert!(bench.lock("k", "theirs", 1_000));
}

#[test]
fn every_write_has_its_own_version() {
    let bench = Bench::new();
    let mut seen = std::collections::HashSet::new();
    for round in 0..200 {
        // The clock stands, and freed inodes are used again.
        bench.set("k", "same", Ttl::Never);
        assert!(seen.insert(bench.get_version("k").unwrap().1), "round {round}");
    }
    let (value, version) = bench.get_version("k").unwrap();
    assert_eq!((value, version), bench.peer(true).get_version("k").unwrap(), "reading changes nothing");
}

#[test]
fn a_conditional_write_fails_after_any_other_write() {
    let bench = Bench::new();
    assert!(bench.set_if("k", "1", None));
    assert!(!bench.set_if("k", "2", None));
    let (_, version) = bench.get_version("k").unwrap();
    bench.peer(true).set("k", "1", Ttl::Never);
    assert!(!bench.set_if("k", "2", Some(version)));
    let (_, version) = bench.get_version("k").unwrap();
    assert!(bench.touch("k", secs(10)));
    assert!(!bench.set_if("k", "2", Some(version)), "renewing is a write");
    let (_, version) = bench.get_version("k").unwrap();
    assert!(bench.set_if("k", "2", Some(version)));
    let (value, version) = bench.get_version("k").unwrap();
    assert_eq!(value, "2");
    bench.delete("k");
    assert!(!bench.set_if("k", "3", Some(version)));
    assert_eq!(bench.get("k"), None);
    assert!(bench.set_if("k", "3", None));
}

#[test]
fn an_expired_entry_counts_as_absent_for_a_conditional_write() {
    let bench = Bench::new();
    bench.set("k", "1", secs(1));
    let (_, version) = bench.get_version("k").unwrap();
    bench.hands.advance(2_000);
    assert!(!bench.set_if("k", "2", Some(version)));
    assert!(bench.set_if("k", "2", None));
}

#[test]
fn a_scan_reads_back_what_was_stored_and_no_other_file() {
    let bench = Bench::new();
    bench.set("a", "1", Ttl::Never);
    bench.set("b", "2", Ttl::Never);
    std::fs::write(bench.dir.join("notes.txt"), "CK").unwrap();
    std::fs::write(bench.dir.parent().unwrap().join("secret"), [&crate::entry::header(0)[..], b"secret"].concat())
        .unwrap();
    let page = bench.page(None, 0);
    assert_eq!(page.items.len(), 1, "a page holds at least one");
    let rest = bench.page(page.next.as_deref(), 10);
    assert_eq!((rest.items.len(), rest.next), (1, None));
    let read = |id: &[u8]| block_on(Scan::read(&bench.backend, id, &CX)).unwrap();
    let mut values: Vec<_> = page.items.iter().chain(&rest.items).map(|id| read(id).unwrap()).collect();
    values.sort();
    assert_eq!(values, ["1", "2"]);
    for id in ["../secret", "notes.txt", ".tally", "", "/etc/passwd", "91C0925C4D980FCF491F0A60B5093185"] {
        assert_eq!(read(id.as_bytes()), None, "{id}");
    }
}

#[test]
fn what_its_caller_gave_up_neither_replaces_nor_renews_an_entry() {
    let bench = Bench::new();
    bench.set("k", "newer", secs(10));
    // Past its deadline on the worker, after it got there.
    let (store, late) = (bench.backend.store(), Wanted::until(Deadline::from_monotonic_ns(1)));
    let name = Name::of(key("k"));
    assert!(matches!(store.write(&name, b"older", secs(500), Condition::Always, &late), Err(FileError::Late)));
    assert!(matches!(store.touch(&name, secs(500), &late), Err(FileError::Late)));
    assert_eq!(bench.get("k").as_deref(), Some(&b"newer"[..]));
    assert_eq!(bench.ttl("k").unwrap().as_ms().unwrap().div_ceil(1000), 10);
    assert_eq!(bench.names().len(), 1, "no temporary file is left");
}

#[test]
fn clearing_removes_entries_and_leaves_every_other_file() {
    let bench = Bench::new();
    for index in 0..30 {
        bench.set(&format!("k{index}"), "x", Ttl::Never);
    }
    std::fs::write(bench.dir.join("notes.txt"), "mine").unwrap();
    std::fs::create_dir(bench.dir.join("0123456789abcdef0123456789abcdef")).unwrap();
    let refused = block_on(Clear::clear(&bench.backend, b"ck:", &CX)).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported);
    // Past its deadline on the worker, not before it gets there.
    assert!(matches!(bench.backend.store().clear(Deadline::from_monotonic_ns(1)), Err(FileError::Late)));
    assert_eq!(bench.clear(), 30);
    assert_eq!(bench.clear(), 0);
    assert_eq!(bench.names(), ["0123456789abcdef0123456789abcdef", "notes.txt"]);
}
