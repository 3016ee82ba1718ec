//! Directories and entries that somebody else prepared.

use std::os::unix::fs::{PermissionsExt, symlink};

use cachekit_plugin::Kind;

use super::*;
use crate::entry::header;

fn entry(payload: &[u8]) -> Vec<u8> {
    [&header(0)[..], payload].concat()
}

fn open(config: &FileConfig) -> Result<FileBackend, BackendError> {
    FileBackend::open_with(config, HostServices::none(), Hands::at(START_MS).clock(), true)
}

/// Reads of every kind miss, both inline and on the pool, and nothing is followed.
fn assert_missed(bench: &Bench, what: &str) {
    for bench in [bench, &bench.peer(false)] {
        assert_eq!(bench.get("k"), None, "{what}");
        assert!(!bench.exists("k"), "{what}");
        assert_eq!(bench.ttl("k"), None, "{what}");
        assert!(!bench.touch("k", secs(10)), "{what}");
        assert!(bench.get_version("k").is_none(), "{what}");
    }
}

#[test]
fn a_link_is_missed_replaced_and_deleted_but_never_followed() {
    let bench = Bench::new();
    let target = bench.dir.parent().unwrap().join("target");
    std::fs::write(&target, entry(b"planted")).unwrap();
    symlink(&target, bench.path("k")).unwrap();
    assert_missed(&bench, "symbolic link");
    bench.set("k", "ours", Ttl::Never);
    assert_eq!(bench.get("k").unwrap(), "ours");
    assert_eq!(std::fs::read(&target).unwrap(), entry(b"planted"));
    bench.delete("k");
    symlink(&target, bench.path("k")).unwrap();
    assert!(!bench.delete("k"));
    assert!(std::fs::symlink_metadata(bench.path("k")).is_err() && target.exists());
}

#[test]
fn a_second_name_of_a_file_is_missed_and_never_written_through() {
    let bench = Bench::new();
    let target = bench.dir.parent().unwrap().join("target");
    std::fs::write(&target, entry(b"planted")).unwrap();
    std::fs::hard_link(&target, bench.path("k")).unwrap();
    assert_missed(&bench, "hard link");
    assert_eq!(std::fs::read(&target).unwrap(), entry(b"planted"), "renewing did not write through it");
    bench.set("k", "ours", Ttl::Never);
    assert_eq!(bench.get("k").unwrap(), "ours");
    assert_eq!(std::fs::read(&target).unwrap(), entry(b"planted"));
    // Without its second name the very same file is an entry.
    std::fs::rename(&target, bench.path("k")).unwrap();
    assert_eq!(bench.get("k").unwrap(), "planted");
}

#[test]
fn a_pipe_is_missed_and_nobody_waits_for_its_other_end() {
    let bench = Bench::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, bench.path("k"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_missed(&bench, "FIFO");
    bench.set("k", "ours", Ttl::Never);
    assert_eq!(bench.get("k").unwrap(), "ours");
}

#[test]
fn a_socket_is_missed() {
    let bench = Bench::new();
    let _socket = std::os::unix::net::UnixListener::bind(bench.path("k")).unwrap();
    assert_missed(&bench, "socket");
}

#[test]
fn a_directory_in_the_place_of_an_entry_is_missed_and_a_write_says_so() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("k")).unwrap();
    assert_missed(&bench, "directory");
    assert_eq!(bench.try_set("k", "ours", Ttl::Never).unwrap_err().kind(), Kind::Config);
    assert!(!bench.delete("k"));
    assert_eq!(bench.names().len(), 1, "the failed write left nothing");
}

#[test]
fn a_file_cut_short_or_grown_while_it_is_read_is_never_a_longer_or_padded_value() {
    let bench = Bench::new();
    bench.set("k", vec![7; 100], Ttl::Never);
    std::fs::OpenOptions::new().write(true).open(bench.path("k")).unwrap().set_len(13).unwrap();
    assert_eq!(bench.get("k"), None);
    assert_eq!(bench.names(), [""; 0], "a torn entry goes");
}

#[test]
fn a_file_larger_than_any_value_is_missed_before_memory_is_taken() {
    let bench = Bench::with(|config| config.with_max_size_mb(2).with_max_value_mb(1));
    std::fs::write(bench.path("k"), entry(b"")).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(bench.path("k")).unwrap();
    // Sparse: a terabyte that takes no room.
    file.set_len(1 << 40).unwrap();
    assert_missed(&bench, "terabyte");
    file.set_len((1 << 20) + 14).unwrap();
    assert_eq!(bench.get("k").unwrap().len(), 1 << 20, "the largest value is still read");
}

#[test]
fn a_directory_that_others_may_write_is_refused_with_the_way_out() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("cache");
    for mode in [0o777, 0o720, 0o1777] {
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = open(&FileConfig::new(&dir)).err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        let text = error.to_string();
        assert!(
            text.contains(&format!("0{mode:o}")) && text.contains("chmod") && text.contains("allow_shared_dir"),
            "{text}"
        );
        open(&FileConfig::new(&dir).with_allow_shared_dir(true)).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        open(&FileConfig::new(&dir)).unwrap();
        std::fs::remove_dir(&dir).unwrap();
    }
}

#[test]
fn a_directory_of_another_user_is_refused() {
    // The file systems of the kernel belong to root; run as root, take one that does not.
    let root = tempfile::tempdir().unwrap();
    let dir = if rustix::process::geteuid().is_root() {
        let dir = root.path().join("theirs");
        std::fs::create_dir(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(12_345), None).unwrap();
        dir
    } else {
        "/usr".into()
    };
    let error = open(&FileConfig::new(&dir)).err().unwrap();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("belongs to user"), "{error}");
}

#[test]
fn what_is_no_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    for dir in [file.clone(), file.join("below")] {
        assert_eq!(open(&FileConfig::new(dir)).err().unwrap().kind(), Kind::Config);
    }
    assert_eq!(open(&FileConfig::new("relative")).err().unwrap().kind(), Kind::Config);
    let dangling = root.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    assert!(
        open(&FileConfig::new(&dangling)).is_ok(),
        "an outage, not a configuration: the target may be mounted later"
    );
}

#[test]
fn our_own_link_to_the_directory_is_followed_and_a_strangers_is_not() {
    let root = tempfile::tempdir().unwrap();
    let (real, link) = (root.path().join("real"), root.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&real, &link).unwrap();
    open(&FileConfig::new(&link)).unwrap();
    if rustix::process::geteuid().is_root() {
        // Only root can make a stranger's link.
        std::os::unix::fs::lchown(&link, Some(12_345), None).unwrap();
        let error = open(&FileConfig::new(&link)).err().unwrap();
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
}

#[test]
fn a_directory_that_vanishes_is_made_anew_by_the_next_write() {
    let bench = Bench::new();
    bench.set("k", "old", Ttl::Never);
    std::fs::remove_dir_all(&bench.dir).unwrap();
    assert_eq!(bench.get("k"), None);
    assert!(!bench.delete("k"));
    bench.set("k", "new", Ttl::Never);
    assert_eq!(bench.get("k").unwrap(), "new");
    std::fs::remove_dir_all(&bench.dir).unwrap();
    assert!(bench.lock("k", "token", 1_000));
    std::fs::remove_dir_all(&bench.dir).unwrap();
    assert!(bench.set_if("k", "newer", None));
}

#[test]
fn a_directory_that_is_replaced_is_found_again_by_readers_within_a_second() {
    let bench = Bench::new();
    bench.set("k", "old", Ttl::Never);
    // Twice, so that the name cache of the kernel knows that it is not there.
    assert_eq!((bench.get("fresh"), bench.get("fresh")), (None, None));
    std::fs::rename(&bench.dir, bench.dir.with_extension("aside")).unwrap();
    bench.peer(true).set("fresh", "new", Ttl::Never);
    assert_eq!(bench.get("fresh"), None, "compared within this second already");
    bench.hands.advance(1_000);
    assert_eq!(bench.get("fresh").unwrap(), "new");
    assert_eq!(bench.get("k"), None);
}

#[test]
fn a_directory_that_is_replaced_by_a_hostile_one_is_refused_then_too() {
    let bench = Bench::new();
    std::fs::remove_dir_all(&bench.dir).unwrap();
    std::fs::create_dir(&bench.dir).unwrap();
    std::fs::set_permissions(&bench.dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(bench.try_set("k", "value", Ttl::Never).unwrap_err().kind(), Kind::Config);
    assert_eq!(names(&bench.dir), [""; 0]);
}

#[test]
fn our_own_files_replaced_by_links_are_not_followed() {
    let bench = Bench::new();
    let target = bench.dir.parent().unwrap().join("target");
    for name in [".tally", ".evict"] {
        symlink(&target, bench.dir.join(name)).unwrap();
    }
    symlink(&target, bench.dir.join(format!(".lock.{}", Name::of(key("k")).as_str()))).unwrap();
    symlink(&target, bench.dir.join(format!(".cas.{:02x}", Name::of(key("k")).first_byte() & 63))).unwrap();
    assert!(block_on(bench.backend.lock(key("k"), b"token", 1_000, &CX)).is_err());
    assert!(bench.try_set("k", "value", Ttl::Never).is_err());
    assert!(!target.exists());
    assert_eq!(bench.names(), [""; 0]);
}
