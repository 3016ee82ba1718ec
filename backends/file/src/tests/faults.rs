//! System calls that fail.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use cachekit_plugin::Kind;

use super::*;

const ROLE: &str = "CACHEKIT_FILE_TEST_ROLE";
const PLACE: &str = "CACHEKIT_FILE_TEST_DIR";

/// Runs the named test of this binary again in a child process, under limits set by `sh`.
fn child(test: &str, prelude: &str, dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{prelude} exec \"$0\" --exact {test} --nocapture --test-threads 1"))
        .arg(std::env::current_exe().unwrap())
        .env(ROLE, test)
        .env(PLACE, dir)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    command
}

/// The directory to work in, if this process is the child that runs `test`.
fn role(test: &str) -> Option<PathBuf> {
    (std::env::var(ROLE).ok()? == test).then(|| std::env::var(PLACE).unwrap().into())
}

fn run(test: &str, prelude: &str, dir: &Path) {
    let output = child(test, prelude, dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn open(dir: PathBuf) -> FileBackend {
    FileBackend::open_with(&FileConfig::new(dir), HostServices::none(), Hands::at(START_MS).clock(), true).unwrap()
}

#[test]
fn a_write_that_does_not_fit_keeps_the_old_value_and_leaves_nothing() {
    const TEST: &str = "tests::faults::a_write_that_does_not_fit_keeps_the_old_value_and_leaves_nothing";
    if let Some(dir) = role(TEST) {
        let backend = open(dir.clone());
        block_on(backend.set(key("k"), "old".into(), Ttl::Never, &CX)).unwrap();
        // Beyond the limit of 64 KiB the first write is short and the second fails, as on a full disk.
        let error = block_on(backend.set(key("k"), vec![1; 100_000].into(), Ttl::Never, &CX)).unwrap_err();
        assert_eq!(error.kind(), Kind::TooLarge);
        assert_eq!(block_on(backend.get(key("k"), &CX)).unwrap().unwrap(), "old");
        let left: Vec<_> = names(&dir).into_iter().filter(|name| !name.starts_with('.')).collect();
        assert_eq!(left.len(), 1, "{left:?}");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    // Blocks of 512 bytes; the signal would end the process before the error is seen.
    run(TEST, "trap '' XFSZ; ulimit -f 128;", &root.path().join("cache"));
}

#[test]
fn without_descriptors_every_operation_answers_and_recovers() {
    const TEST: &str = "tests::faults::without_descriptors_every_operation_answers_and_recovers";
    if let Some(dir) = role(TEST) {
        let backend = open(dir);
        block_on(backend.set(key("k"), "value".into(), Ttl::Never, &CX)).unwrap();
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        assert_eq!(block_on(backend.get(key("k"), &CX)).unwrap_err().kind(), Kind::Transient);
        assert_eq!(block_on(backend.set(key("k"), "new".into(), Ttl::Never, &CX)).unwrap_err().kind(), Kind::Transient);
        assert_eq!(block_on(backend.delete(key("k"), &CX)).unwrap_err().kind(), Kind::Transient);
        assert!(block_on(backend.health(&CX)).is_err());
        drop(hoard);
        assert_eq!(block_on(backend.get(key("k"), &CX)).unwrap().unwrap(), "value");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    run(TEST, "ulimit -n 64;", &root.path().join("cache"));
}

#[test]
fn operations_leak_no_descriptors() {
    let open_descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    const TEST: &str = "tests::faults::operations_leak_no_descriptors";
    if let Some(dir) = role(TEST) {
        let backend = open(dir);
        let round = || {
            block_on(backend.set(key("k"), "value".into(), secs(10), &CX)).unwrap();
            block_on(backend.get(key("k"), &CX)).unwrap();
            block_on(backend.touch(key("k"), secs(10), &CX)).unwrap();
            let version = block_on(backend.get_version(key("k"), &CX)).unwrap().unwrap().1;
            block_on(backend.set_if(key("k"), "v".into(), Ttl::Never, Some(version), &CX)).unwrap();
            block_on(backend.lock(key("k"), b"t", 1_000, &CX)).unwrap();
            block_on(backend.unlock(key("k"), b"t", &CX)).unwrap();
            block_on(Scan::next(&backend, b"", None, 10, &CX)).unwrap();
            block_on(backend.delete(key("k"), &CX)).unwrap();
        };
        round();
        let before = open_descriptors();
        (0..20).for_each(|_| round());
        assert_eq!(open_descriptors(), before);
        return;
    }
    // In a process of its own: other tests open files too.
    let root = tempfile::tempdir().unwrap();
    run(TEST, "", &root.path().join("cache"));
}

#[test]
fn killed_writers_leave_whole_values_and_no_litter_that_stays() {
    const TEST: &str = "tests::faults::killed_writers_leave_whole_values_and_no_litter_that_stays";
    if let Some(dir) = role(TEST) {
        // The real clock, as litter is judged by its age.
        let backend =
            FileBackend::open_with(&FileConfig::new(dir), HostServices::none(), crate::store::system_clock(), true);
        let backend = backend.unwrap();
        for round in 0_u64.. {
            let value = vec![(round % 251) as u8; 200_000];
            block_on(backend.set(key("k"), value.into(), Ttl::Never, &CX)).unwrap();
        }
    }
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("cache");
    for kill in 0..25_u64 {
        let mut writer = child(TEST, "", &dir).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(10 + kill * 7 % 30));
        writer.kill().unwrap();
        assert_eq!(writer.wait().unwrap().signal(), Some(9));
    }
    let reader = open(dir.clone());
    if let Some(value) = block_on(reader.get(key("k"), &CX)).unwrap() {
        assert_eq!(value.len(), 200_000);
        assert!(value.iter().all(|&byte| byte == value[0]), "torn");
    }
    // A later writer, with a clock a second ahead of the last kill instead of a pause.
    let ahead: Clock = Arc::new(|| crate::store::system_clock()() + Duration::from_secs(1));
    let writer = FileBackend::open_with(&FileConfig::new(dir.clone()), HostServices::none(), ahead, true).unwrap();
    block_on(writer.set(key("k"), "new".into(), Ttl::Never, &CX)).unwrap();
    assert_eq!(names(&dir).into_iter().filter(|name| !name.starts_with('.')).count(), 1, "no litter, no stuck lock");
}

#[test]
fn every_durability_stores_and_removes() {
    use crate::Durability;
    for durability in [Durability::None, Durability::File, Durability::Full] {
        let bench = Bench::with(|config| config.with_durability(durability));
        bench.set("k", "value", secs(10));
        assert!(bench.touch("k", secs(20)));
        assert_eq!(bench.get("k").unwrap(), "value");
        assert!(bench.delete("k"));
        assert_eq!(bench.names(), [""; 0]);
    }
}

#[test]
fn where_nothing_can_be_written_reads_are_served_and_writes_say_why() {
    let bench = Bench::new();
    bench.set("k", "value", secs(10));
    // Not by taking the permission away, which root does not notice: a link in the place of the lock file stops every
    // write to the key.
    let stripe = bench.dir.join(format!(".cas.{:02x}", Name::of(key("k")).first_byte() & 63));
    std::fs::remove_file(&stripe).unwrap();
    std::os::unix::fs::symlink("nowhere", &stripe).unwrap();
    let peer = bench.peer(true);
    assert_eq!(peer.get("k").unwrap(), "value");
    assert_eq!(peer.try_set("k", "new", Ttl::Never).unwrap_err().kind(), Kind::Config);
    bench.hands.advance(10_000);
    assert_eq!(peer.get("k"), None, "an entry that is over is missed even where it cannot be removed");
}
