//! `plugin`, on the File backend as the shared library that hosts load.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use crate::program::{Home, Ran};

/// The library: what CACHEKIT_TEST_FILE_PLUGIN names, otherwise built by cargo.
static FILE_PLUGIN: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(path) = std::env::var_os("CACHEKIT_TEST_FILE_PLUGIN") {
        return path.into();
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--package", "cachekit-backend-file", "--message-format", "json-render-diagnostics"]);
    // In a folder of its own: a library that is also linked has no hash in its name, so a build with other features would
    // replace what the running `cargo test` has linked and is about to link again.
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/e2e/workspace");
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", target).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Json>(line).ok());
    let files = messages.flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default());
    let library = files
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .find(|file| file.file_name().is_some_and(|name| name == "libcachekit_backend_file.so"));
    library.expect("cargo tells where it put the library")
});

/// A copy of the library that nobody but its owner can write, in `dir` below the home.
fn installed(home: &Home, dir: &str) -> String {
    let path = home.path().join(dir).join("libfile.so");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(&*FILE_PLUGIN, &path).unwrap();
    for (place, mode) in [(path.as_path(), 0o644), (path.parent().unwrap(), 0o755)] {
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_copy_takes_no_plugin_that_the_preset_of_ones_own_file_does_not_take() {
    let home = Home::new();
    let url = format!("plugin://{}?dir={}", installed(&home, "plugins"), home.path().join("to").display());
    let from = format!("file://{}", home.path().join("from").display());
    // The second cannot be resolved as it stands: it has no key.
    for (text, code) in [
        ("preset = \"production\"\n", 5),
        ("preset = \"secure\"\n", 5),
        ("preset = \"secure\"\n[plugins]\nrequire = \"none\"\n", 0),
    ] {
        home.write(".config/cachekit/cachekit.toml", text);
        let ran = home.run(["copy", &from, &url]).expect(code);
        assert_eq!(ran.err.contains("nothing pins its bytes"), code == 5, "{text}: {ran:?}");
    }
}

#[test]
fn inspect_reads_what_a_library_says_of_itself() {
    let home = Home::new();
    let path = installed(&home, "plugins");
    let inspection = home.run(["plugin", "inspect", &path, "--json"]).expect(0).json();
    assert_eq!((&inspection["id"], &inspection["panic"]), (&json!("cachekit.file"), &json!("unwind")));
    for field in ["version", "abi", "entry", "arch", "sha256"] {
        assert!(inspection[field].is_string(), "{field}: {inspection}");
    }
    assert_eq!(inspection["sha256"].as_str().unwrap().len(), 64);
    // The user's own hand may be relative, and may point at a link.
    std::os::unix::fs::symlink(&path, home.path().join("link.so")).unwrap();
    for relative in ["plugins/libfile.so", "./plugins/../plugins/libfile.so", "link.so"] {
        assert_eq!(home.run(["plugin", "inspect", relative, "--json"]).expect(0).json(), inspection);
    }
}

#[test]
fn what_is_no_plugin_is_exit_code_5() {
    let home = Home::new();
    let garbage = home.write("garbage.so", "no library");
    let garbage = garbage.to_str().unwrap();
    for command in ["inspect", "verify", "test"] {
        let ran = home.run(["plugin", command, garbage]).expect(5);
        assert!(ran.err.contains("no ELF file"), "{}", ran.err);
    }
    assert_eq!(home.run(["plugin", "inspect", garbage, "--json"]).expect(5).json()["error"]["kind"], "structure");
    // A whole file, this test itself, that has all of a library but that it is a program.
    let program = std::env::current_exe().unwrap();
    let program = home.run([OsStr::new("plugin"), OsStr::new("inspect"), program.as_os_str()]).expect(5);
    assert!(program.err.contains("it is a program, not a library"), "{}", program.err);
    assert!(home.run(["plugin", "inspect", "absent.so"]).expect(2).err.contains("absent.so"));
}

#[test]
fn verify_loads_the_library_and_shows_what_it_can_do() {
    let home = Home::new();
    let path = installed(&home, "plugins");
    let report = home.run(["plugin", "verify", &path, "--json"]).expect(0).json();
    for capability in ["backend", "async", "batch", "ttl", "lock", "cas", "scan", "clear", "config-schema"] {
        assert_eq!(report["capabilities"][capability], "native", "{capability}");
    }
    for capability in ["watch", "freshness"] {
        assert_eq!(report["capabilities"][capability], "absent", "{capability}");
    }
    assert_eq!((&report["layouts"], &report["pinned"]), (&json!("checked"), &json!(false)));
    assert_eq!(report["exports"].as_array().unwrap().len(), 1);
    assert!(report["schema"]["properties"]["dir"].is_object());
    let digest = report["sha256"].as_str().unwrap();
    let pinned = home.run(["plugin", "verify", &path, "--sha256", digest, "--json"]).expect(0).json();
    assert_eq!(pinned["pinned"], true);
    let checks: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    let all = ["path", "permissions", "structure", "identity", "pin", "signature", "open", "contract", "layout"];
    assert_eq!(checks, all);
    assert_eq!((&pinned["pinned_by"], &pinned["signer"]), (&json!(["--sha256"]), &json!(null)));
    let text = home.run(["plugin", "verify", &path]).expect(0);
    for (check, words) in
        [("permissions", "nobody else may write it"), ("pin", digest), ("layout", "the same as this host's")]
    {
        let line = text.out().lines().find(|line| line.starts_with(&format!("{check} ")));
        assert!(line.is_some_and(|line| line.contains(" ok ") && line.contains(words)), "{check}: {}", text.out());
    }
    assert!(text.out().contains("capabilities.lock = native\n"), "{}", text.out());
}

#[test]
fn verify_refuses_other_bytes_and_files_that_others_may_write() {
    let home = Home::new();
    let path = installed(&home, "plugins");
    let pin = home.run(["plugin", "verify", &path, "--sha256", &"0".repeat(64), "--json"]).expect(5);
    assert_eq!(pin.json()["error"]["kind"], "pin");
    home.run(["plugin", "verify", &path, "--sha256", "abc"]).expect(2);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let writable = home.run(["plugin", "verify", &path]).expect(5);
    assert!(writable.err.contains("chmod go-w"), "{}", writable.err);
    // What was passed before is told, and where it ended.
    assert!(writable.out().contains("path         ok"), "{}", writable.out());
    assert!(writable.out().ends_with("permissions  FAILED  nothing further was looked at\n"), "{}", writable.out());
}

#[test]
fn a_plugin_is_a_store_like_any_other() {
    let home = Home::new();
    let path = installed(&home, "plugins");
    let url = format!("plugin://{path}?dir={}", home.path().join("store").display());
    home.run(["--backend", &url, "set", "k", "v", "--ttl", "1h"]).expect(0);
    assert_eq!(home.run(["--backend", &url, "get", "k"]).expect(0).out(), "v");
    assert_eq!(home.run(["--backend", &url, "keys"]).expect(0).out(), "k\n");
    let job = ["--backend", &url, "run", "--ttl", "1h", "--key", "j", "--"];
    assert_eq!(home.run(job.iter().chain(&["echo", "one"])).expect(0).out(), "one\n");
    assert_eq!(home.run(job.iter().chain(&["echo", "two"])).expect(0).out(), "one\n");
    let wrong = home.run(["--backend", &format!("plugin://{path}?dirr=x"), "get", "k"]).expect(2);
    assert!(
        wrong.err.contains("tier.options.dirr (--backend): there is no such option; did you mean dir?"),
        "{}",
        wrong.err
    );
}

#[test]
fn list_shows_what_is_there_and_what_is_wrong_with_it() {
    let home = Home::new();
    let path = installed(&home, "plugins");
    home.write("plugins/garbage.so", "no library");
    home.write("plugins/readme.txt", "");
    let plugins = home.run(["plugin", "list", "--dir", "plugins", "--json"]).expect(0).json()["plugins"].clone();
    let plugins = plugins.as_array().unwrap();
    assert_eq!(plugins.len(), 2);
    let file = plugins.iter().find(|plugin| plugin["path"] == path).unwrap();
    assert_eq!((&file["id"], &file["problem"]), (&json!("cachekit.file"), &json!(null)));
    let garbage = plugins.iter().find(|plugin| plugin["path"] != path).unwrap();
    assert!(garbage["problem"].as_str().unwrap().contains("no ELF"), "{garbage}");

    installed(&home, "more");
    let config = home
        .write("c.toml", &format!("[plugins]\ndirs = [\"{}/more\"]\n", home.path().canonicalize().unwrap().display()));
    let args = ["--config", config.to_str().unwrap(), "plugin", "list", "--dir", "plugins"];
    let both = home.run(args).expect(0);
    assert_eq!(both.out().matches("several libraries have the id").count(), 2, "{}", both.out());
    if !std::path::Path::new("/usr/lib/cachekit/plugins").exists() {
        assert!(home.run(["plugin", "list"]).expect(0).err.contains("no plugin directories"));
    }
    home.run(["plugin", "list", "--dir", "nowhere"]).expect(2);
}

#[test]
fn test_runs_each_case_in_a_child_and_counts() {
    let home = Home::new();
    let path = installed(&home, "plugins");
    let args = ["plugin", "test", &path, "--json", "--config", r#"{"dir":"{tmp}/place"}"#];
    let cases = ["--case", "values_keep_every_byte"];
    let report = home.run(args.iter().chain(&cases));
    let report = report.expect(0).json();
    assert_eq!((&report["passed"], &report["failed"]), (&json!(1), &json!(0)));
    assert_eq!((&report["cases"][0]["ok"], &report["cases"][0]["reason"]), (&json!(true), &json!("")));
}

#[test]
fn the_file_library_passes_every_case() {
    let home = Home::new();
    let path = installed(&home, "plugins");
    let options = home.write("options.json", r#"{"dir":"{tmp}"}"#);
    // Most cases wait for lives to end, so more of them than processors fit side by side.
    let report = home.run(["plugin", "test", &path, "--jobs", "8", "--config", &format!("@{}", options.display())]);
    assert_eq!(report.code, 0, "{}", report.out());
    assert!(report.out().ends_with(" 0 failed\n"), "{}", report.out());
}

#[test]
fn a_plugin_that_fails_is_exit_code_5() {
    let home = Home::new();
    let path = installed(&home, "plugins");
    let args = ["plugin", "test", &path, "--json", "--config", r#"{"dir":"relative"}"#];
    let report = home.run(args.iter().chain(&["--case", "values_keep_every_byte"])).expect(5).json();
    assert_eq!((&report["passed"], &report["failed"]), (&json!(0), &json!(1)));
    assert!(report["cases"][0]["reason"].as_str().unwrap().contains("absolute path"), "{report}");
}

/// A library with a right identity that dies as it is loaded.
const CRASHES_AT_LOAD: &str = r#"
#include <stdint.h>
#define IDENTITY "{\"id\":\"test.crash\",\"version\":\"1\",\"abi\":\"ABI\",\"panic\":\"unwind\",\"entry\":\"cachekit_plugin_v1\"}"
__attribute__((section(".note.cachekit"), used, aligned(4))) static const struct {
    uint32_t name_len, len, kind; char name[12]; char text[sizeof(IDENTITY) - 1];
} note = { 9, sizeof(IDENTITY) - 1, NOTE_TYPE, "cachekit", IDENTITY };
__attribute__((constructor)) static void die(void) { *(volatile int *)0 = 1; }
void *cachekit_plugin_v1(void) { return 0; }
"#;

#[test]
fn a_library_that_crashes_as_it_is_loaded_does_not_end_the_test_program() {
    let home = Home::new();
    let abi = home.run(["plugin", "inspect", &installed(&home, "plugins"), "--json"]).json()["abi"].clone();
    let source = CRASHES_AT_LOAD.replace("ABI", abi.as_str().unwrap()).replace("NOTE_TYPE", "NOTE");
    let source = home.write("crash.c", &source);
    let library = home.path().join("crash.so");
    let note_type = format!("-DNOTE={}", cachekit_plugin::abi::CK_NOTE_TYPE);
    let cc =
        Command::new("cc").args(["-shared", "-fPIC", &note_type, "-o"]).args([&library, &source]).output().unwrap();
    assert!(cc.status.success(), "{}", String::from_utf8_lossy(&cc.stderr));
    std::fs::set_permissions(&library, std::fs::Permissions::from_mode(0o644)).unwrap();
    let library = library.to_str().unwrap();
    assert_eq!(home.run(["plugin", "inspect", library, "--json"]).expect(0).json()["id"], "test.crash");
    let ran = home.run(["plugin", "test", library]).expect(5);
    assert!(ran.err.contains("SIGSEGV"), "{ran:?}");
}

#[test]
fn test_does_not_clear_a_directory_that_nobody_named() {
    let home = Home::new();
    let path = installed(&home, "plugins");
    let ran = home.run(["plugin", "test", &path]).expect(2);
    assert!(ran.err.contains(r#"--config '{"dir":"{tmp}"}'"#), "{}", ran.err);
    home.run(["plugin", "test", &path, "--config", "[]"]).expect(2);
    home.run(["plugin", "test", &path, "--config", "{"]).expect(2);
    let unknown = home.run(["plugin", "test", &path, "--config", "{}", "--case", "no_such"]).expect(2);
    assert!(unknown.err.contains("no_such"), "{}", unknown.err);
}

/// A home with a configuration whose plugin directory holds the library.
fn configured(toml: &str) -> (Home, String, String) {
    let home = Home::new();
    let path = installed(&home, "plugins");
    let dir = home.path().canonicalize().unwrap();
    let config = home.write("c.toml", &toml.replace("DIR", dir.to_str().unwrap()));
    (home, path, config.to_str().unwrap().to_owned())
}

const BY_ID: &str =
    "[plugins]\ndirs = [\"DIR/plugins\"]\n[[tier]]\nplugin = \"cachekit.file\"\n[tier.options]\ndir = \"DIR/store\"\n";

#[test]
fn a_locked_plugin_is_loaded_and_a_swapped_one_is_not() {
    let (home, path, config) = configured(BY_ID);
    let with = |args: &[&str]| home.run(["--config", &config].iter().chain(args));
    // Without a lock file nothing is demanded, so this is the control of what follows.
    with(&["set", "k", "v"]).expect(0);
    let locked = with(&["plugin", "lock", "--json"]).expect(0).json();
    assert_eq!((&locked["written"], &locked["plugins"][0]["id"]), (&json!(true), &json!("cachekit.file")));
    assert_eq!(locked["changes"][0]["what"], "added");
    let lock = home.path().join("cachekit-plugins.lock");
    assert_eq!(locked["lock"], lock.canonicalize().unwrap().to_str().unwrap());
    let text = std::fs::read_to_string(&lock).unwrap();
    // Again, and nothing changes.
    assert_eq!(with(&["plugin", "lock", "--json"]).expect(0).json()["changed"], false);
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), text);
    with(&["plugin", "lock", "--check"]).expect(0);
    assert_eq!(with(&["get", "k"]).expect(0).out(), "v");
    let list = with(&["plugin", "list", "--json"]).expect(0).json();
    assert_eq!((&list["require"], &list["plugins"][0]["locked"]), (&json!("hash"), &json!("yes")));

    // Installed by renaming, as one should, and yet not the file that was locked.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.push(0);
    let new = format!("{path}.new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::rename(&new, &path).unwrap();
    let refused = with(&["get", "k"]).expect(5);
    assert!(refused.err.contains("cachekit-plugins.lock") && refused.err.contains("swapped"), "{}", refused.err);
    let check = with(&["plugin", "lock", "--check"]).expect(5);
    assert!(check.out().contains("would change") && check.out().contains("changed  cachekit.file"), "{}", check.out());
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), text, "--check writes nothing");
    let list = with(&["plugin", "list"]).expect(0);
    assert!(list.out().contains("locked: other") && list.out().contains("problem: the lock file"), "{}", list.out());
    assert_eq!(with(&["plugin", "verify", &path, "--json"]).expect(5).json()["error"]["kind"], "pin");
    with(&["plugin", "verify", &path, "--unpinned"]).expect(0);
    with(&["plugin", "lock"]).expect(0);
    with(&["get", "k"]).expect(0);
}

#[test]
fn a_plugin_that_the_lock_file_does_not_know_is_refused_with_what_to_do() {
    let (home, path, config) = configured(BY_ID);
    let lock = home.write("cachekit-plugins.lock", "version = 1\n");
    std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = home.run(["--config", &config, "get", "k"]).expect(5);
    assert!(refused.err.contains(&format!("cachekit plugin lock {path}")), "{}", refused.err);
    // The one command that it names, and then it works: a miss.
    home.run(["--config", &config, "plugin", "lock", &path]).expect(0);
    home.run(["--config", &config, "get", "k"]).expect(1);
    // A lock file that cannot be believed lets nothing in.
    std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(home.run(["--config", &config, "get", "k"]).expect(5).err.contains("chmod go-w"));
    home.write("cachekit-plugins.lock", "version = 7\n");
    std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(home.run(["--config", &config, "get", "k"]).expect(5).err.contains("form 7"));
}

#[test]
fn the_preset_production_takes_no_plugin_whose_bytes_nobody_wrote_down() {
    let (home, path, config) = configured(&format!("preset = \"production\"\n{BY_ID}"));
    let refused = home.run(["--config", &config, "get", "k"]).expect(5);
    assert!(refused.err.contains("nothing pins its bytes"), "{}", refused.err);
    let digest = home.run(["plugin", "inspect", &path, "--json"]).expect(0).json()["sha256"].clone();
    let pinned = BY_ID.replace("[tier.options]", &format!("sha256 = {digest}\n[tier.options]"));
    let dir = home.path().canonicalize().unwrap();
    home.write("c.toml", &format!("preset = \"production\"\n{pinned}").replace("DIR", dir.to_str().unwrap()));
    home.run(["--config", &config, "get", "k"]).expect(1);
}

#[test]
fn lock_needs_a_place_and_refuses_what_it_cannot_vouch_for() {
    let home = Home::new();
    let path = installed(&home, "plugins");
    let lock = home.path().join("my.lock");
    let lock = lock.to_str().unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(home.run(["plugin", "lock", &path, "--lock", lock]).expect(5).err.contains("chmod go-w"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    home.run(["plugin", "lock", &path, "--lock", lock]).expect(0);
    let twin = installed(&home, "more");
    let twice = home.run(["plugin", "lock", &path, &twin, "--lock", lock]).expect(5);
    assert!(twice.err.contains(&path) && twice.err.contains(&twin), "{}", twice.err);
    // An entry of another plugin stays where a file is named, and goes where everything is locked anew.
    let other = "\n[[plugin]]\nid = \"a.b\"\nversion = \"1\"\nabi = \"1.0\"\nfile = \"x.so\"\n";
    let text = std::fs::read_to_string(lock).unwrap() + other + &format!("sha256 = \"{}\"\n", "0".repeat(64));
    std::fs::write(lock, text).unwrap();
    let kept = home.run(["plugin", "lock", &path, "--lock", lock, "--json"]).expect(0).json();
    assert_eq!(kept["plugins"].as_array().unwrap().len(), 2);
    let config =
        home.write("c.toml", &format!("[plugins]\ndirs = [{:?}]\n", std::path::Path::new(&path).parent().unwrap()));
    let anew =
        home.run(["--config", config.to_str().unwrap(), "plugin", "lock", "--lock", lock, "--json"]).expect(0).json();
    assert_eq!((&anew["changes"][0]["what"], &anew["changes"][0]["id"]), (&json!("removed"), &json!("a.b")));
}

#[test]
fn a_plugin_is_found_by_its_id_wherever_the_search_path_leads_and_never_twice() {
    let (home, path, config) = configured(&BY_ID.replace("dirs = [\"DIR/plugins\"]", ""));
    assert!(home.run(["--config", &config, "get", "k"]).expect(2).err.contains("CACHEKIT_PLUGIN_PATH"));
    let dir = |name: &str| home.path().canonicalize().unwrap().join(name).to_str().unwrap().to_owned();
    let by_env = |path: &str| {
        let mut command = home.command(["--config", &config, "get", "k"]);
        command.env("CACHEKIT_PLUGIN_PATH", path);
        Ran::from(command.output().unwrap())
    };
    by_env(&dir("plugins")).expect(1);
    let twin = installed(&home, "more");
    let both = by_env(&format!("{}:{}", dir("plugins"), dir("more"))).expect(2);
    assert!(both.err.contains(&path) && both.err.contains(&twin), "{}", both.err);
    // One directory named twice is one.
    by_env(&format!("{0}:{0}", dir("plugins"))).expect(1);
    std::os::unix::fs::symlink(dir("plugins"), dir("link")).unwrap();
    assert!(by_env(&dir("link")).expect(2).err.contains("reached through a link"));
    assert!(by_env("plugins").expect(2).err.contains("never looked for relatively"));
}

#[test]
fn an_option_is_named_with_its_line_and_a_secret_is_not_repeated() {
    let (home, _, config) = configured(&BY_ID.replace("dir = ", "max_size_mb = \"hunter2\"\ndir = "));
    let wrong = home.run(["--config", &config, "get", "k"]).expect(2);
    let place = format!("tier.options.max_size_mb ({config}:6): text stands where a whole number from 1 to 1000000");
    assert!(wrong.err.contains(&place), "{}", wrong.err);
    assert!(!wrong.err.contains("hunter2"), "{}", wrong.err);
}

#[test]
fn bench_measures_every_operation_beside_a_store_that_does_nothing() {
    let home = Home::new();
    let path = installed(&home, "plugins");
    let args = ["plugin", "bench", &path, "--duration", "50ms", "--keys", "20", "--callers", "2", "--json"];
    let report = home.run(args.iter().chain(&["--config", r#"{"dir":"{tmp}"}"#])).expect(0).json();
    assert_eq!((&report["id"], &report["keys_left"]), (&json!("cachekit.file"), &json!(0)));
    for operation in ["noop", "get_miss", "get_hit", "set"] {
        let figure = &report["operations"][operation];
        assert!(figure["count"].as_u64().unwrap() > 0, "{operation}: {figure}");
        assert_eq!((&figure["errors"], &figure["wrong_answers"]), (&json!(0), &json!(0)), "{operation}");
        assert!(figure["ratio_to_null"].as_f64().unwrap() > 0.0 && figure["latency_us"]["p99"].is_f64(), "{figure}");
    }
    let text = home.run(args[..9].iter().chain(&["--config", r#"{"dir":"{tmp}"}"#])).expect(0);
    assert!(text.out().contains("get_hit") && text.out().contains("x null store"), "{}", text.out());
    let wrong = home.run(["plugin", "bench", &path, "--config", r#"{"dirr":"/x"}"#]).expect(2);
    assert!(wrong.err.contains("did you mean dir?"), "{}", wrong.err);
}
