//! Lock files: the same text for the same plugins, and no other text taken.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn locked(id: &str, version: &str, bytes: &[u8]) -> Locked {
    let sha256 = Sha256::of(bytes).to_string();
    Locked { id: id.into(), version: version.into(), abi: "1.0".into(), sha256, file: format!("lib{id}.so") }
}

fn lock(path: &Path) -> LockFile {
    let mut lock = LockFile::new(path);
    for (id, version) in [("b.store", "1.0.0"), ("a.store", "2.0.0")] {
        assert_eq!(lock.insert(locked(id, version, id.as_bytes())), Ok(None));
    }
    lock
}

fn identity(id: &str, version: &str) -> Identity {
    let (abi, panic, entry) = ("1.0".into(), "unwind".into(), "e".into());
    Identity { id: id.into(), version: version.into(), abi, panic, entry }
}

#[test]
fn a_lock_file_is_sorted_and_reads_what_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LOCK_FILE);
    let written = lock(&path);
    written.write().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, written.render());
    assert!(text.find("a.store").unwrap() < text.find("b.store").unwrap(), "{text}");
    assert!(text.contains("version = 1\n") && text.contains("file = \"liba.store.so\"\n"), "{text}");
    assert_eq!(LockFile::read(&path).unwrap().unwrap(), written);
    // Written again over itself, and nothing is left of the way there.
    written.write().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o022, 0);
}

#[test]
fn a_lock_file_that_is_not_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(LockFile::read(&dir.path().join(LOCK_FILE)).unwrap(), None);
}

#[test]
fn a_lock_file_that_others_may_write_pins_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LOCK_FILE);
    lock(&path).write().unwrap();
    for mode in [0o664, 0o646] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = LockFile::read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod go-w"), "{mode:o}: {error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let owner = fs::metadata(&path).unwrap().uid();
    let stranger = Process { euid: owner + 1, ruid: owner + 1, privileged: false };
    // Root's own files are everybody's to believe.
    assert_eq!(LockFile::read_as(&path, &stranger).is_ok(), owner == 0);
}

#[test]
fn texts_of_another_form_are_refused_with_the_line() {
    let good = lock(Path::new("/l")).render();
    let digest = Sha256::of(b"a.store").to_string();
    for (what, text, words) in [
        ("no TOML", "version = ".to_owned(), "line 1"),
        ("a later form", good.replace("version = 1\n", "version = 2\n"), "form 2"),
        ("no form", good.replace("version = 1\n", ""), "version"),
        (
            "an unknown field",
            good.replace("file = \"liba", "signer = \"x\"\nfile = \"liba"),
            "line 9: unknown field `signer`",
        ),
        ("half a digest", good.replace(&digest, "abc"), "64 hex digits"),
        ("one id twice", good.replace("b.store", "a.store"), "twice"),
    ] {
        let error = LockFile::parse(Path::new("/l"), &text).expect_err(what);
        assert!(error.contains(words), "{what}: {words:?} is not in {error:?}");
    }
}

#[test]
fn a_plugin_is_the_bytes_that_its_id_stands_for() {
    let lock = lock(Path::new("/etc/cachekit/cachekit-plugins.lock"));
    let library = Path::new("/opt/liba.so");
    let check = |id, version, bytes| lock.check(library, &identity(id, version), Sha256::of(bytes));
    assert!(check("a.store", "2.0.0", b"a.store").is_ok());
    let swapped = check("a.store", "2.0.0", b"other").unwrap_err();
    assert!(swapped.to_string().contains("of the same version 2.0.0"), "{swapped}");
    let older = check("a.store", "1.9.0", b"other").unwrap_err();
    assert!(older.to_string().contains("of version 2.0.0; this file says 1.9.0"), "{older}");
    let unknown = check("c.store", "1.0.0", b"c").unwrap_err();
    assert_eq!(unknown.class(), "unpinned");
    assert!(unknown.to_string().contains("cachekit plugin lock /opt/liba.so"), "{unknown}");
}
