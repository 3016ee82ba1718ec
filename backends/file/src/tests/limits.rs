//! The size of the directory, and the litter of killed writers.

use cachekit_plugin::Kind;
use cachekit_plugin::blocking::Wanted;

use super::*;
use crate::client::Locked;
use crate::error::FileError;

/// Takes the `flock` of a file as another process would, until the guard is dropped.
fn hold(bench: &Bench, name: &str, exclusive: bool) -> Locked {
    let file = std::fs::File::options().read(true).append(true).create(true).open(bench.dir.join(name)).unwrap();
    Locked::now(file.into(), exclusive).unwrap()
}

#[test]
fn old_entries_go_when_the_bytes_are_too_many() {
    let bench = Bench::with(|config| config.with_max_size_mb(2).with_max_value_mb(1));
    for index in 0..40 {
        bench.set(&format!("k{index}"), vec![0; 100_000], Ttl::Never);
        let bytes: u64 = bench.names().iter().map(|name| std::fs::metadata(bench.dir.join(name)).unwrap().len()).sum();
        assert!(bytes <= (2 << 20) * 9 / 10, "{bytes} after write {index}");
    }
    assert!(!bench.exists("k0") && bench.exists("k39"));
}

#[test]
fn renewing_saves_an_entry_from_eviction_and_reading_does_not() {
    let bench = Bench::with(|config| config.with_max_entry_count(100));
    for index in 0..90 {
        bench.set(&format!("k{index}"), "x", Ttl::Never);
    }
    assert!(bench.touch("k0", secs(1_000)));
    assert!(bench.get("k1").is_some());
    bench.set("k90", "x", Ttl::Never);
    assert!(bench.exists("k0") && !bench.exists("k1"));
}

#[test]
fn the_entry_just_written_stays_even_if_the_clock_was_set_back() {
    let bench = Bench::with(|config| config.with_max_entry_count(100));
    for index in 0..90 {
        bench.set(&format!("k{index}"), "x", Ttl::Never);
    }
    bench.hands.set(START_MS - 3_600_000);
    let peer = bench.peer(true);
    peer.set("written in the past", "x", Ttl::Never);
    assert!(peer.exists("written in the past"));
    assert_eq!(peer.names().len(), 70);
}

#[test]
fn files_that_cannot_be_entries_are_neither_counted_nor_evicted() {
    let bench = Bench::with(|config| config.with_max_entry_count(100));
    for index in 0..200 {
        std::fs::write(bench.dir.join(format!("precious {index}")), "x").unwrap();
    }
    for index in 0..95 {
        bench.set(&format!("k{index}"), "x", Ttl::Never);
    }
    assert_eq!(bench.names().len(), 200 + 74);
}

#[test]
fn a_stopped_evictor_neither_blocks_writers_nor_lets_the_directory_grow() {
    let bench = Bench::with(|config| config.with_max_entry_count(100));
    let _stopped = hold(&bench, ".evict", true);
    let mut most = 0;
    for index in 0..300 {
        bench.set(&format!("k{index}"), "x", Ttl::Never);
        most = most.max(bench.names().len());
    }
    assert!((92..=100).contains(&most), "left alone up to 95 %, then done all the same: {most}");
}

#[test]
fn a_full_directory_of_entries_that_cannot_go_refuses_new_ones_and_takes_overwrites() {
    let bench = Bench::with(|config| config.with_max_entry_count(100));
    // All 64 stripes held: no entry can be evicted, and no entry written, so hold them after filling.
    for index in 0..90 {
        bench.set(&format!("k{index}"), "x", Ttl::Never);
    }
    for index in 90..100 {
        std::fs::write(bench.path(&format!("k{index}")), crate::entry::header(0)).unwrap();
    }
    // Shared, as a stopped plain writer holds them: other writers pass, eviction does not.
    let held: Vec<_> = (0..64).map(|stripe| hold(&bench, &format!(".cas.{stripe:02x}"), false)).collect();
    let peer = bench.peer(true);
    let refused = peer.try_set("new", "x", Ttl::Never).unwrap_err();
    assert_eq!(refused.kind(), Kind::TooLarge);
    peer.set("k0", "overwritten", Ttl::Never);
    drop(held);
    peer.set("new", "x", Ttl::Never);
    assert!(peer.exists("new") && peer.names().len() <= 90);
}

#[test]
fn a_write_that_another_process_keeps_from_its_stripe_ends_by_its_deadline() {
    let bench = Bench::new();
    let _conditional = hold(&bench, &format!(".cas.{:02x}", Name::of(key("k")).first_byte() & 63), true);
    let cx = Cx::within(Duration::from_millis(20));
    let error = block_on(bench.backend.set(key("k"), "value".into(), Ttl::Never, &cx)).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert_eq!(bench.names(), [""; 0], "the temporary went with it");
}

#[test]
fn a_read_that_another_process_keeps_locked_ends_by_its_deadline() {
    let bench = Bench::new();
    bench.set("k", "value", Ttl::Never);
    let renewing = hold(&bench, Name::of(key("k")).as_str(), true);
    let cx = Cx::within(Duration::from_millis(20));
    assert_eq!(block_on(bench.backend.get(key("k"), &cx)).unwrap_err().kind(), Kind::Timeout);
    drop(renewing);
    assert_eq!(bench.get("k").unwrap(), "value");
}

#[test]
fn an_entry_that_is_being_read_elsewhere_is_not_renewed_under_the_reader() {
    let bench = Bench::new();
    bench.set("k", "value", secs(100));
    let reading = hold(&bench, Name::of(key("k")).as_str(), false);
    assert_eq!(bench.get("k").unwrap(), "value", "readers share");
    let cx = Cx::within(Duration::from_millis(20));
    let error = block_on(bench.backend.touch(key("k"), secs(200), &cx)).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    drop(reading);
    assert!(bench.touch("k", secs(200)));
}

#[test]
fn litter_of_killed_writers_goes_at_once_and_the_files_of_living_ones_stay() {
    let bench = Bench::new();
    let name = |seq: usize| format!("{}.tmp.999999.1.s{seq}", Name::of(key("k")).as_str());
    let long_ago = Duration::from_millis(START_MS - 200);
    for seq in 0..100 {
        std::fs::write(bench.dir.join(name(seq)), "half").unwrap();
        set_mtime(&bench.dir.join(name(seq)), long_ago);
    }
    let alive = hold(&bench, &name(7), true);
    // The family's temporaries carry no lock that we could ask, so theirs are left alone for a minute.
    let foreign = format!("{}.tmp.999999.1.5", Name::of(key("k")).as_str());
    std::fs::write(bench.dir.join(&foreign), "half").unwrap();
    set_mtime(&bench.dir.join(&foreign), long_ago);
    bench.set("other", "x", Ttl::Never);
    let mut expected = vec![name(7), foreign, Name::of(key("other")).as_str().to_owned()];
    expected.sort();
    assert_eq!(bench.names(), expected);
    drop(alive);
    bench.hands.advance(61_000);
    bench.set("other", "x", Ttl::Never);
    assert_eq!(bench.names(), [Name::of(key("other")).as_str()]);
}

/// As if its worker had been held up until then: the pool does not begin what is late already.
#[test]
fn a_lease_that_was_taken_for_a_caller_who_has_left_is_given_back() {
    let bench = Bench::new();
    let late = Wanted::until(Deadline::from_monotonic_ns(1));
    let taken = bench.backend.store().lock(&Name::of(key("k")), b"first", 10_000_000, &late);
    assert!(matches!(taken, Err(FileError::Late)), "{taken:?}");
    assert!(bench.lock("k", "second", 10_000_000), "nobody holds it");
}

#[test]
fn a_neighbours_files_stay_whatever_they_are_called() {
    let bench = Bench::with(|config| config.with_max_entry_count(100));
    let entry = Name::of(key("k"));
    let neighbours = [
        "thesis.tmp.docx".to_owned(),
        "backup.tmp.1.2".to_owned(),
        "backup.tmp.1.2.s3".to_owned(),
        format!("{}.tmp.1.2.pdf", entry.as_str()),
        format!(".lock.{}.txt", entry.as_str()),
        ".lock.notes".to_owned(),
        "\u{17c}.tmp.1.2".to_owned(),
    ];
    for name in &neighbours {
        std::fs::write(bench.dir.join(name), "years of work").unwrap();
        set_mtime(&bench.dir.join(name), Duration::from_secs(1));
    }
    // Looks at the directory, again after a while, and evicts.
    for number in 0..250 {
        bench.hands.advance(1_000);
        bench.set(&format!("k{number}"), "value", Ttl::Never);
    }
    assert!(bench.names().len() < 120, "nothing was evicted");
    for name in &neighbours {
        assert_eq!(std::fs::read_to_string(bench.dir.join(name)).ok().as_deref(), Some("years of work"), "{name}");
    }
}

#[test]
fn leases_that_ended_long_ago_are_swept_and_held_ones_stay() {
    let bench = Bench::new();
    assert!(bench.lock("dead", "token", 1_000));
    assert!(bench.lock("held", "token", 10_000_000));
    let path = |name: &str| bench.dir.join(format!(".lock.{}", Name::of(key(name)).as_str()));
    for name in ["dead", "held"] {
        set_mtime(&path(name), Duration::from_millis(START_MS));
    }
    bench.hands.advance(100_000);
    bench.set("k", "a write looks at the directory", Ttl::Never);
    assert!(!path("dead").exists() && path("held").exists());
}
