//! Which bytes are let into the process: signed ones, locked ones, a copy of them, and one line in the log for each.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Once};

use cachekit::{Config, Environment, Sources};
use cachekit_e2e::canaries::{Canary, all_of, leaks};
use cachekit_e2e::{Place, artifacts, root};
use cachekit_host::lock::{LockFile, Locked};
use cachekit_host::signature::signature_path;
use cachekit_host::{LoadError, LoadMode, Plugin, Policy, Require, TrustedKey, inspect};
use minisign::KeyPair;

/// Somebody who signs.
struct Author(KeyPair);

impl Author {
    fn new() -> Self {
        Self(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    fn key(&self) -> TrustedKey {
        self.0.pk.to_base64().parse().unwrap()
    }

    fn sign(&self, library: &Path, comment: &str) {
        let bytes = fs::read(library).unwrap();
        let signature = minisign::sign(Some(&self.0.pk), &self.0.sk, bytes.as_slice(), Some(comment), None).unwrap();
        fs::write(signature_path(library), signature.into_string()).unwrap();
    }

    /// What a host that believes this author alone demands.
    fn demanded(&self) -> Policy {
        Policy::default().with_require(Require::SIGNATURE).with_trusted_keys(vec![self.key()])
    }
}

/// Replaces a file as an installation does.
fn install(library: &Path, bytes: &[u8]) {
    let new = library.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&new, library).unwrap();
}

#[test]
fn a_signed_plugin_is_loaded_and_its_signer_is_known() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, None);
    let author = Author::new();
    author.sign(&library, "bad-c 1.0.0, from the build of today");
    let plugin = Plugin::open(&library, &author.demanded()).unwrap();
    let signer = plugin.provenance().signer.clone().unwrap();
    assert_eq!(signer.trusted_comment, "bad-c 1.0.0, from the build of today");
    assert_eq!(signer.key, author.key().id());
}

#[test]
fn unsigned_tampered_and_strangers_plugins_are_refused() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, None);
    let (author, stranger) = (Author::new(), Author::new());
    let refused = |what: &str| {
        let error = Plugin::open(&library, &author.demanded()).expect_err(what);
        assert!(matches!(error, LoadError::Signature { .. }), "{what}: {error}");
        error.to_string()
    };
    assert!(refused("unsigned").contains(&*signature_path(&library).to_string_lossy()));
    stranger.sign(&library, "trust me");
    assert!(refused("a stranger's").contains(stranger.key().id()));
    // One byte behind the end, where no check of the structure looks.
    author.sign(&library, "right");
    let mut bytes = fs::read(&library).unwrap();
    bytes.push(0);
    install(&library, &bytes);
    assert!(refused("tampered").contains("not one of these bytes"));
    author.sign(&library, "right again");
    assert!(Plugin::open(&library, &author.demanded()).is_ok());
    // A wrong signature is refused where none is needed, if keys are trusted at all.
    stranger.sign(&library, "trust me");
    let optional = Policy::default().with_trusted_keys(vec![author.key()]);
    assert!(matches!(Plugin::open(&library, &optional), Err(LoadError::Signature { .. })));
    fs::remove_file(signature_path(&library)).unwrap();
    assert!(Plugin::open(&library, &optional).unwrap().provenance().signer.is_none());
}

#[test]
fn an_older_version_that_was_signed_once_is_refused_by_the_lock_file() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, None);
    let author = Author::new();
    let old = fs::read(&library).unwrap();
    let new = newer(&old);
    let lock_path = place.path().join("cachekit-plugins.lock");
    install(&library, &new);
    author.sign(&library, "2");
    let mut lock = LockFile::new(&lock_path);
    lock.insert(Locked::of(&library, &inspect(&library).unwrap())).unwrap();
    lock.write().unwrap();
    let lock = Arc::new(LockFile::read(&lock_path).unwrap().unwrap());
    let policy = author.demanded().with_lock(Arc::clone(&lock));
    assert!(Plugin::open(&library, &policy).is_ok());
    install(&library, &old);
    author.sign(&library, "1");
    // The signature is right: alone it lets the older one in.
    assert!(Plugin::open(&library, &author.demanded()).is_ok());
    let error = Plugin::open(&library, &policy).unwrap_err();
    assert!(matches!(error, LoadError::Pin { .. }), "{error}");
    assert!(error.to_string().contains("of version 9.9.9; this file says"), "{error}");
}

/// The same library, whose note says a later version. Of the same length, so that nothing else moves.
fn newer(library: &[u8]) -> Vec<u8> {
    let note = b"\"version\":\"";
    let mut newer = library.to_vec();
    let at = library.windows(note.len()).position(|bytes| bytes == note).unwrap() + note.len();
    assert_eq!(library[at + 5], b'"', "a version of five characters");
    newer[at..at + 5].copy_from_slice(b"9.9.9");
    newer
}

/// In a process of its own, because the control ends it.
fn overwritten(mode: &str) -> std::process::Output {
    let place = Place::new();
    let library = artifacts::bad_c(&place, None);
    Command::new(env!("CARGO_BIN_EXE_probe")).args(["overwrite", mode]).arg(&library).output().unwrap()
}

#[test]
fn a_copy_outlives_what_is_written_into_the_file_it_was_made_of() {
    let copy = overwritten("copy");
    assert!(copy.status.success(), "{copy:?}");
    assert!(String::from_utf8_lossy(&copy.stdout).ends_with("still there\n"), "{copy:?}");
    // The control: the file itself, cut under the process that has it mapped.
    use std::os::unix::process::ExitStatusExt;
    const SIGBUS: i32 = 7;
    let inode = overwritten("inode");
    assert_eq!(inode.status.signal(), Some(SIGBUS), "{inode:?}");
}

#[test]
fn a_copy_is_made_once_for_the_same_bytes_and_anew_for_others() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, None);
    let open = || Plugin::open(&library, &Policy::default().with_load_mode(LoadMode::Copy)).unwrap();
    let copies = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let of_copies = maps.lines().filter(|line| line.contains("/memfd:cachekit-plugin"));
        of_copies
            .filter_map(|line| line.split_whitespace().nth(4).map(str::to_owned))
            .collect::<std::collections::BTreeSet<_>>()
    };
    let before = copies();
    let (first, _second) = (open(), open());
    assert_eq!(first.provenance().load_mode, LoadMode::Copy);
    assert_eq!(copies().difference(&before).count(), 1);
    // Written over in place, which a file that is mapped would not bear: another library, under another digest.
    let mut bytes = fs::read(&library).unwrap();
    bytes.push(0);
    fs::File::options().write(true).truncate(true).open(&library).unwrap().write_all(&bytes).unwrap();
    let third = open();
    assert_ne!(third.provenance().sha256, first.provenance().sha256);
    assert_eq!(copies().difference(&before).count(), 2);
}

thread_local! {
    /// What is logged by a thread that listens to itself.
    static HEARD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Where the one subscriber of this process writes: to the thread that speaks.
///
/// A subscriber for each thread would be missed now and then: while there is but one, the interest in a place that logs is
/// decided for all by the thread that comes there first, which may be that of a test without a subscriber.
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        HEARD.with_borrow_mut(|heard| heard.as_mut().map(|heard| heard.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// All that this thread logs while `work` is done, line by line.
    fn of(work: impl FnOnce()) -> Vec<String> {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            let subscriber = tracing_subscriber::fmt().with_writer(|| Log).with_ansi(false);
            let subscriber = subscriber.with_max_level(tracing::Level::TRACE).finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        HEARD.set(Some(Vec::new()));
        work();
        let bytes = HEARD.take().unwrap();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

fn audited(lines: &[String]) -> Vec<&String> {
    lines.iter().filter(|line| line.contains("cachekit::audit")).collect()
}

#[test]
fn every_load_leaves_one_line_that_says_what_and_by_whose_word() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, None);
    let inspection = inspect(&library).unwrap();
    let path = library.display().to_string();
    let lines = Log::of(|| {
        let plugin = Plugin::open(&library, &Policy::default()).unwrap();
        // Instances are no loads.
        plugin.create(b"", cachekit_plugin::HostServices::none()).unwrap();
        plugin.create(b"", cachekit_plugin::HostServices::none()).unwrap();
    });
    let found = audited(&lines);
    assert_eq!(found.len(), 1, "{lines:?}");
    let id = format!("id={}", inspection.identity.id);
    let (version, abi) =
        (format!("version={}", inspection.identity.version), format!("abi={}", inspection.identity.abi));
    let sha256 = format!("sha256={}", inspection.sha256);
    let path = format!("path={path}");
    for part in [
        " INFO ",
        "plugin loaded",
        &path,
        &sha256,
        &id,
        &version,
        &abi,
        "signer=unsigned",
        "pinned_by=nothing",
        "load_mode=inode",
    ] {
        assert!(found[0].contains(part), "{part:?} is not in {:?}", found[0]);
    }

    let author = Author::new();
    author.sign(&library, "build 7");
    let pinned = author.demanded().with_sha256(inspection.sha256.parse().unwrap()).with_sha256_origin("/etc/c.toml:3");
    let lines = Log::of(|| drop(Plugin::open(&library, &pinned).unwrap()));
    let signer = format!("signer=minisign {} (build 7)", author.key().id());
    for part in [signer.as_str(), "pinned_by=/etc/c.toml:3"] {
        assert!(audited(&lines)[0].contains(part), "{part:?} is not in {lines:?}");
    }

    // Who was turned away is told too.
    let wrong = Policy::default().with_sha256(cachekit_host::Sha256::of(b"other"));
    let lines = Log::of(|| drop(Plugin::open(&library, &wrong).unwrap_err()));
    let found = audited(&lines);
    assert_eq!(found.len(), 1, "{lines:?}");
    assert!(found[0].contains(" WARN ") && found[0].contains("plugin refused") && found[0].contains("class=\"pin\""));
}

/// A configuration file that names the plugin that misbehaves as its options say.
fn chaos(place: &Place, options: &str) -> PathBuf {
    let file = place.path().join("c.toml");
    let library = artifacts::chaos_plugin().display();
    fs::write(&file, format!("[[tier]]\npath = \"{library}\"\n[tier.options]\n{options}\n")).unwrap();
    file
}

fn opened(file: Option<PathBuf>, vars: &[(&str, &str)]) -> Result<cachekit::Cache, cachekit::ConfigError> {
    let environment = Environment::from_vars(vars.iter().map(|(name, value)| (name.into(), value.into())));
    cachekit::open(&Config::resolve(&Sources { file, environment, ..Sources::default() })?)
}

const CANARY: &str = "kestrel-9f2c77ab41-never-to-be-heard";

#[test]
fn options_are_held_to_the_plugins_schema_before_it_is_opened_with_them() {
    let place = Place::new();
    for (options, expected) in [
        (
            "mode = \"none\"\ncolour = 1",
            "tier.options.colour (FILE:5): there is no such option; there are counts, greeting, macros, mode, thread, token",
        ),
        ("mod = \"none\"", "tier.options.mod (FILE:4): there is no such option; did you mean mode?"),
        ("mode = 7", "tier.options.mode (FILE:4): it must be one of"),
        ("mode = \"nonsense\"", "tier.options.mode (FILE:4): it must be one of"),
        ("greeting = \"hello\"", "tier.options.mode (FILE:1): it is missing, and must be one of"),
        ("mode = \"none\"\ngreeting = [1]", "tier.options.greeting (FILE:5): a list stands where text"),
    ] {
        let file = chaos(&place, options);
        let expected = expected.replace("FILE", &file.display().to_string());
        let mut error = String::new();
        let lines = Log::of(|| error = opened(Some(file), &[]).unwrap_err().to_string());
        assert!(
            error.starts_with(&expected) && error.contains("test.chaos"),
            "{options}: {expected:?} does not begin {error:?}"
        );
        // What the plugin would have logged when it is opened.
        assert!(!lines.iter().any(|line| line.contains("hello")), "{lines:?}");
    }
    let url = format!("plugin://{}?mode=none&colour=1", artifacts::chaos_plugin().display());
    let error = opened(None, &[("CACHEKIT_BACKEND", &url)]).unwrap_err().to_string();
    assert!(
        error.starts_with("tier.options.colour (environment CACHEKIT_BACKEND): there is no such option"),
        "{error}"
    );
    // In a URL a greeting of digits is text like any other.
    let url = format!("plugin://{}?mode=none&greeting=42", artifacts::chaos_plugin().display());
    let lines = Log::of(|| drop(opened(None, &[("CACHEKIT_BACKEND", &url)]).unwrap()));
    assert!(lines.iter().any(|line| line.contains("test.chaos") && line.contains("42")), "{lines:?}");
    // The control: what fits is opened.
    opened(Some(chaos(&place, "mode = \"none\"\ngreeting = \"hello\"")), &[]).unwrap();
}

#[test]
fn a_secret_is_resolved_when_the_plugin_asks_and_is_heard_nowhere() {
    let place = Place::new();
    let secret = place.path().join("token");
    fs::write(&secret, CANARY).unwrap();
    let canaries = [Canary::new("the token", CANARY)];
    let named = format!("mode = \"none\"\ntoken = {{ \"$secret\" = \"file:{}\" }}", secret.display());
    let lines = Log::of(|| {
        let file = chaos(&place, &named);
        let config = Config::resolve(&Sources { file: Some(file), ..Sources::default() }).unwrap();
        println!("{config:?} {:?}", config.show());
        assert!(leaks(&canaries, &format!("{config:?} {:?}", config.show())).is_empty());
        cachekit::open(&config).unwrap();
    });
    // It came to the plugin, which says how long it is.
    assert!(
        lines.iter().any(|line| line.contains("token resolved") && line.contains(&CANARY.len().to_string())),
        "{lines:?}"
    );
    assert_eq!(leaks(&canaries, &lines.join("\n")), []);
    // Written out where a name belongs, it is refused before anything is opened, and not repeated.
    for written in [format!("\"{CANARY}\""), format!("{{ \"$secret\" = \"{CANARY}\" }}"), format!("[\"{CANARY}\"]")] {
        let file = chaos(&place, &format!("mode = \"none\"\ntoken = {written}"));
        let mut said = String::new();
        let lines = Log::of(|| {
            let error = opened(Some(file.clone()), &[]).unwrap_err();
            said = all_of(&error);
        });
        assert!(said.contains("a secret is named here and never written") && said.contains("c.toml:5"), "{said}");
        assert_eq!(leaks(&canaries, &(said + &lines.join("\n"))), []);
    }
    // Late: a name that leads nowhere is the plugin's to find out.
    let nowhere = chaos(&place, "mode = \"none\"\ntoken = { \"$secret\" = \"env:CACHEKIT_E2E_NOT_SET\" }");
    let error = all_of(&opened(Some(nowhere), &[]).unwrap_err());
    assert!(error.contains("CACHEKIT_E2E_NOT_SET is not set"), "{error}");
}

#[test]
fn a_program_with_more_rights_than_its_starter_loads_nothing_that_its_environment_names() {
    // Not in the temporary directory, which many systems mount so that no program there gains rights.
    let dir = root().join("target/e2e/privileged");
    fs::create_dir_all(&dir).unwrap();
    let program = dir.join(format!("probe-{}", std::process::id()));
    // By a process of its own: a copy made here would be open for writing in whatever another test starts at that moment, and
    // the kernel runs no program that somebody may still write.
    cachekit_e2e::output(Command::new("cp").arg(env!("CARGO_BIN_EXE_probe")).arg(&program));
    let run = || {
        let mut probe = Command::new(&program);
        let probe = probe.arg("environment").env("CACHEKIT_PLUGIN_PATH", "/home/mallory/plugins");
        String::from_utf8(cachekit_e2e::output(probe).stdout).unwrap()
    };
    // The control.
    assert_eq!(run(), "privileged=false path=[\"/home/mallory/plugins\"]\n");
    // Another user's, with the bit that lends that user's rights. Root may do both; others ask for it.
    let is_root = rustix::process::geteuid().is_root();
    for (tool, argument) in [("chown", "65534"), ("chmod", "4755")] {
        let mut command = if is_root { Command::new(tool) } else { Command::new("sudo") };
        if !is_root {
            command.args(["-n", tool]);
        }
        cachekit_e2e::output(command.arg(argument).arg(&program));
    }
    let said = run();
    fs::remove_file(&program).unwrap();
    assert_eq!(said, "privileged=true path=[]\n");
}
