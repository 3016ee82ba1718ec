//! Which files are taken: one table of owners and modes, of the file and of every directory above it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::*;

/// A directory that only its owner may write, whatever the umask.
fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn file(dir: &Path, mode: u32) -> PathBuf {
    let path = dir.canonicalize().unwrap().join("lib.so");
    fs::write(&path, b"x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn verdict(path: &Path) -> Result<(), String> {
    PluginFile::open(path).and_then(|file| file.check_permissions()).map_err(|error| error.to_string())
}

/// Owner, group and mode of a file or a directory; the owner in the words of the table.
#[derive(Debug, Clone, Copy)]
struct Of(Owner, u32);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Owner {
    /// Root; where the test is not root, whoever runs it stands in for root's and the process's files alike.
    Root,
    /// The user of the process.
    Process,
    /// Somebody else.
    Other,
}

/// The user that the process of the table runs as.
const PROCESS: u32 = 4001;
const OTHER: u32 = 4002;

use Owner::{Other, Process as Own, Root};

/// `above/dir/lib.so`: the three, and what is said of them. `None`: it is taken.
type Row = (&'static str, Of, Of, Of, Option<&'static str>);

const MATRIX: &[Row] = &[
    ("root's, as packages install it", Of(Root, 0o755), Of(Root, 0o755), Of(Root, 0o644), None),
    ("one's own", Of(Own, 0o755), Of(Own, 0o755), Of(Own, 0o755), None),
    ("one's own in root's directory", Of(Root, 0o755), Of(Root, 0o755), Of(Own, 0o644), None),
    ("root's in one's own directory", Of(Own, 0o700), Of(Own, 0o700), Of(Root, 0o644), None),
    ("private", Of(Own, 0o700), Of(Own, 0o700), Of(Own, 0o600), None),
    ("with setgid directories, as build servers have them", Of(Root, 0o2755), Of(Root, 0o2755), Of(Root, 0o644), None),
    ("below root's sticky directory", Of(Root, 0o1777), Of(Own, 0o700), Of(Own, 0o644), None),
    ("below root's sticky group directory", Of(Root, 0o1775), Of(Own, 0o755), Of(Own, 0o644), None),
    ("somebody else's file", Of(Root, 0o755), Of(Root, 0o755), Of(Other, 0o644), Some("it belongs to user 4002")),
    ("group may write", Of(Root, 0o755), Of(Root, 0o755), Of(Root, 0o664), Some("group or others may write it")),
    ("others may write", Of(Root, 0o755), Of(Root, 0o755), Of(Own, 0o646), Some("group or others may write it")),
    ("setuid", Of(Root, 0o755), Of(Root, 0o755), Of(Root, 0o4755), Some("setuid or setgid")),
    ("setgid", Of(Root, 0o755), Of(Root, 0o755), Of(Root, 0o2755), Some("setuid or setgid")),
    ("somebody else's directory", Of(Root, 0o755), Of(Other, 0o755), Of(Root, 0o644), Some("who could swap it")),
    (
        "a directory its group may write",
        Of(Root, 0o755),
        Of(Root, 0o775),
        Of(Root, 0o644),
        Some("could swap it; chmod"),
    ),
    ("a directory others may write", Of(Root, 0o755), Of(Own, 0o757), Of(Own, 0o644), Some("could swap it; chmod")),
    ("a sticky directory of its own", Of(Root, 0o755), Of(Root, 0o1777), Of(Own, 0o644), Some("could swap it; chmod")),
    ("above: somebody else's", Of(Other, 0o755), Of(Root, 0o755), Of(Root, 0o644), Some("who could swap it")),
    ("above: its group may write", Of(Root, 0o775), Of(Root, 0o755), Of(Root, 0o644), Some("could swap it; chmod")),
    ("above: others may write", Of(Own, 0o707), Of(Own, 0o755), Of(Own, 0o644), Some("could swap it; chmod")),
    ("above: sticky, but not root's", Of(Own, 0o1777), Of(Own, 0o755), Of(Own, 0o644), Some("could swap it; chmod")),
    ("above: sticky and somebody else's", Of(Other, 0o1777), Of(Own, 0o755), Of(Own, 0o644), Some("who could swap it")),
];

#[test]
fn a_file_is_taken_if_nobody_but_root_and_this_user_can_have_written_or_swapped_it() {
    let runs_as_root = rustix::process::geteuid().is_root();
    let me = rustix::process::geteuid().as_raw();
    let process = match runs_as_root {
        true => Process { euid: PROCESS, ruid: PROCESS, privileged: false },
        false => Process { euid: me, ruid: me, privileged: false },
    };
    let mut judged = 0;
    for (what, above, below, of_file, expected) in MATRIX {
        // Only root can give files away. Whoever else runs this test judges the rows that need no second user; sticky
        // directories of root are the system's own there, and a test below covers them.
        if !runs_as_root && [above.0, below.0, of_file.0].contains(&Other) {
            continue;
        }
        if !runs_as_root && above.1 & 0o1000 != 0 && expected.is_none() {
            continue;
        }
        let dir = dir();
        let upper = dir.path().canonicalize().unwrap().join("above");
        let lower = upper.join("dir");
        fs::create_dir_all(&lower).unwrap();
        let path = file(&lower, 0o644);
        for (place, Of(owner, mode)) in [(&path, of_file), (&lower, below), (&upper, above)] {
            if runs_as_root {
                let uid = match owner {
                    Root => 0,
                    Own => PROCESS,
                    Other => OTHER,
                };
                chown(place, Some(uid), Some(uid)).unwrap();
            }
            // After the owner: giving a file away takes its setuid bit.
            fs::set_permissions(place, fs::Permissions::from_mode(*mode)).unwrap();
        }
        let said = PluginFile::open(&path).and_then(|file| file.check_permissions_for(&process));
        match (said, expected) {
            (Ok(()), None) => {}
            (Err(error), Some(words)) => {
                let error = error.to_string();
                assert!(error.contains(words), "{what}: {words:?} is not in {error:?}");
            }
            (said, expected) => panic!("{what}: {said:?}, expected {expected:?}"),
        }
        judged += 1;
    }
    assert!(if runs_as_root { judged == MATRIX.len() } else { judged >= 12 }, "{judged} rows");
}

#[test]
fn the_systems_temporary_directory_may_stand_above() {
    let dir = dir();
    let path = file(dir.path(), 0o755);
    // Where tests put their files: below a sticky directory of root's, if the system is set up as usual.
    assert_eq!(verdict(&path), Ok(()));
}

#[test]
fn a_second_name_of_a_file_changes_nothing() {
    let dir = dir();
    let path = file(dir.path(), 0o644);
    let second = path.with_file_name("second.so");
    fs::hard_link(&path, &second).unwrap();
    assert_eq!((verdict(&path), verdict(&second)), (Ok(()), Ok(())));
    // Nor does it help: who may write it under one name may write it under the other.
    fs::set_permissions(&second, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(verdict(&path).is_err() && verdict(&second).is_err());
}

#[test]
fn more_rights_than_the_starter_has_mean_less_trust() {
    let dir = dir();
    let path = file(dir.path(), 0o644);
    let file = PluginFile::open(&path).unwrap();
    let me = rustix::process::geteuid().as_raw();
    let as_if = |euid, ruid, privileged| file.check_permissions_for(&Process { euid, ruid, privileged }).is_ok();
    // Root's files are everybody's to believe, so this says most where the test is not root.
    let by_root = me == 0;
    assert!(as_if(me, me, false) && as_if(me, me + 1, true));
    assert_eq!(as_if(me, me, true), by_root);
    assert_eq!(as_if(me + 1, me, true), by_root);
}

#[test]
fn a_file_that_another_took_the_name_of_is_not_taken() {
    let dir = dir();
    let path = file(dir.path(), 0o644);
    let opened = PluginFile::open(&path).unwrap();
    fs::write(path.with_file_name("new"), b"y").unwrap();
    fs::rename(path.with_file_name("new"), &path).unwrap();
    let error = opened.check_permissions().unwrap_err().to_string();
    assert!(error.contains("took its name"), "{error}");
}

#[test]
fn relative_dotted_linked_and_special_paths_are_refused() {
    let dir = dir();
    let path = file(dir.path(), 0o755);
    let root = path.parent().unwrap();
    symlink(&path, root.join("link.so")).unwrap();
    fs::create_dir(root.join("dir.so")).unwrap();
    for (wrong, word) in [
        (PathBuf::from("lib.so"), "absolute"),
        (root.join("../x.so"), "`..`"),
        (root.join("link.so"), "symbolic link"),
        (root.join("dir.so"), "regular file"),
        (root.join("absent.so"), "cannot be read"),
        (PathBuf::from("/dev/null"), "regular file"),
    ] {
        let error = verdict(&wrong).unwrap_err();
        assert!(error.contains(word), "{wrong:?}: {error}");
    }
}
