//! Every bad plugin is refused or contained, for the reason that is its own, and the host lives.

mod counts;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachekit_core::blocking::wait;
use cachekit_e2e::{Place, artifacts};
use cachekit_host::{LoadError, Plugin, Policy, Reflect, Sha256, inspect};
use cachekit_plugin::{Backend, BackendError, Cx, Enumerates, HostServices, Key, Kind, Ttl};
use counts::Counts;

fn open(library: &Path) -> Result<Arc<dyn Backend>, LoadError> {
    Plugin::open(library, &Policy::default())?.create(b"", HostServices::none())
}

/// The error of a refused plugin, with everything underneath.
fn refusal(opened: Result<Arc<dyn Backend>, LoadError>) -> (String, &'static str) {
    let error = opened.err().expect("it is refused");
    let class = error.class();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    (text, class)
}

fn soon() -> Cx<'static> {
    Cx::within(Duration::from_secs(5))
}

fn get(backend: &Arc<dyn Backend>, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
    let cx = soon();
    wait(async { backend.get(Key::from_wire(key), &cx).await })
}

fn set(backend: &Arc<dyn Backend>, key: &[u8], value: &'static [u8]) -> Result<(), BackendError> {
    let cx = soon();
    wait(async { backend.set(Key::from_wire(key), Bytes::from_static(value), Ttl::Never, &cx).await })
}

/// The control of every test here: without a defect the plugin loads and works.
#[test]
fn the_right_plugin_is_taken() {
    let place = Place::new();
    for variant in [None, Some("BIG_STRUCT"), Some("WRONG_MINOR"), Some("ASYNC_GOOD"), Some("ASYNC_WAKE_TWICE")] {
        let backend = open(&artifacts::bad_c(&place, variant)).unwrap();
        set(&backend, b"k", b"v").unwrap();
        assert_eq!(get(&backend, b"k").unwrap().as_deref(), Some(&b"v"[..]), "{variant:?}");
        assert_eq!(get(&backend, b"j").unwrap(), None, "{variant:?}");
    }
}

#[test]
fn plugins_that_break_the_contract_are_refused_by_name() {
    let place = Place::new();
    for (variant, class, words) in [
        ("NO_NOTE", "identity", "no identity note"),
        ("BAD_NOTE_JSON", "identity", "no identity"),
        ("HUGE_NOTE", "structure", "longer than"),
        ("NOTE_OVERRUN", "identity", "no identity note"),
        ("NOTE_MAJOR", "identity", "speaks ABI 2.0"),
        ("PANIC_ABORT", "identity", "panic = \"abort\""),
        ("NO_SYMBOL", "open", "cachekit_plugin_v1_absent"),
        ("UNDEFINED_SYMBOL", "open", "cachekit_bad_c_nobody_has_this"),
        ("NULL_ROOT", "contract", "returned no root"),
        ("WRONG_MAGIC", "contract", "magic"),
        ("WRONG_MAJOR", "contract", "major 2"),
        ("SMALL_STRUCT", "contract", "32 bytes"),
        ("ZERO_STRUCT", "contract", "0 bytes"),
        ("NULL_CREATE", "contract", "function of its root is NULL"),
        ("NULL_VTABLE", "contract", "one capability a plugin must have"),
        ("SHORT_VTABLE", "contract", "bytes, the contract"),
        ("NULL_FUNCTION", "contract", "is NULL"),
        ("CREATE_FAILS", "create", "bad-c: create fails as told"),
        ("CREATE_FAILS_SILENTLY", "create", "no reason given"),
        ("CREATE_NULL", "contract", "without an instance"),
        ("LIMITS_FAIL", "contract", "`limits` answered"),
        ("LIMITS_LIE", "contract", "no room"),
    ] {
        let (text, found) = refusal(open(&artifacts::bad_c(&place, Some(variant))));
        println!("{variant:22} {found:10} {text}");
        assert_eq!(found, class, "{variant}: {text}");
        assert!(text.contains(words), "{variant}: {words:?} is not in {text:?}");
    }
}

#[test]
fn files_that_are_no_plugin_are_refused_before_they_are_loaded() {
    let place = Place::new();
    let good = fs::read(artifacts::bad_c(&place, None)).unwrap();
    let aarch64 = {
        let mut file = good.clone();
        file[18] = 183;
        file
    };
    let bits_32 = {
        let mut file = good.clone();
        file[4] = 1;
        file
    };
    let executable = {
        let mut file = good.clone();
        file[16] = 2;
        file
    };
    let headers_far_away = {
        let mut file = good.clone();
        file[32..40].fill(0xff);
        file
    };
    for (name, content, words) in [
        ("empty.so", Vec::new(), "empty"),
        ("text.so", b"#!/bin/sh\necho hello\n".to_vec(), "no ELF"),
        ("garbage.so", (0..4096_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect(), "no ELF"),
        ("header.so", good[..64].to_vec(), ""),
        ("half.so", good[..good.len() / 2].to_vec(), ""),
        ("nine-tenths.so", good[..good.len() * 9 / 10].to_vec(), ""),
        ("aarch64.so", aarch64, "built for aarch64"),
        ("32-bit.so", bits_32, "32-bit"),
        ("executable.so", executable, "no shared library"),
        ("far.so", headers_far_away, ""),
    ] {
        let path = place.path().join(name);
        fs::write(&path, content).unwrap();
        let (text, class) = refusal(open(&path));
        println!("{name:16} {class:10} {text}");
        assert_eq!(class, "structure", "{name}: {text}");
        assert!(text.contains(words), "{name}: {words:?} is not in {text:?}");
    }
}

#[test]
fn paths_and_permissions_that_anybody_could_use_are_refused() {
    let place = Place::new();
    let good = artifacts::bad_c(&place, None);
    let copy = |name: &str| {
        let path = place.path().join(name);
        fs::copy(&good, &path).unwrap();
        path
    };
    let writable = copy("writable.so");
    fs::set_permissions(&writable, fs::Permissions::from_mode(0o666)).unwrap();
    let setuid = copy("setuid.so");
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    let link = place.path().join("link.so");
    symlink(&good, &link).unwrap();
    let open_dir = place.path().join("open");
    fs::create_dir(&open_dir).unwrap();
    fs::copy(&good, open_dir.join("in.so")).unwrap();
    fs::set_permissions(&open_dir, fs::Permissions::from_mode(0o1777)).unwrap();
    for (path, class, words) in [
        (writable.as_path(), "permissions", "chmod go-w"),
        (&setuid, "permissions", "setuid"),
        (&link, "path", "symbolic link"),
        (&open_dir.join("in.so"), "permissions", "could swap it"),
        (Path::new("relative.so"), "path", "absolute"),
        (place.path(), "path", "not a regular file"),
        (&place.path().join("absent.so"), "read", "cannot be read"),
    ] {
        let (text, found) = refusal(open(path));
        println!("{found:12} {text}");
        assert_eq!(found, class, "{path:?}: {text}");
        assert!(text.contains(words), "{path:?}: {words:?} is not in {text:?}");
    }
}

#[test]
fn a_pin_admits_the_pinned_file_and_no_other() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, None);
    let digest: Sha256 = inspect(&library).unwrap().sha256.parse().unwrap();
    assert!(Plugin::open(&library, &Policy::default().with_sha256(digest)).is_ok());
    let other = Policy::default().with_sha256(Sha256::of(b"another file"));
    assert!(matches!(Plugin::open(&library, &other), Err(LoadError::Pin { .. })));
}

#[test]
fn a_plugin_without_layouts_is_refused_only_where_they_are_required() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, None);
    assert!(Plugin::open(&library, &Policy::default()).is_ok());
    let required = Policy::default().with_reflect(Reflect::Require);
    assert!(matches!(Plugin::open(&library, &required), Err(LoadError::Layout { .. })));
    assert!(Plugin::open(artifacts::file_plugin(), &required).is_ok());
}

#[test]
fn a_field_that_changed_its_type_but_not_its_place_is_refused_by_reflection() {
    let error = Plugin::open(artifacts::skewed_plugin(), &Policy::default()).unwrap_err();
    println!("{error}");
    let LoadError::Layout { capability, reason, .. } = &error else { panic!("{error}") };
    assert_eq!(capability, cachekit_abi::CK_ID_BACKEND);
    assert!(reason.contains("u16") && reason.contains("u32") && reason.len() < 2000, "{reason}");
}

#[test]
fn a_plugin_built_to_abort_says_so_and_is_refused() {
    let library = artifacts::aborting_plugin();
    let error = Plugin::open(library, &Policy::default()).unwrap_err();
    assert!(error.to_string().contains("panic = \"abort\""), "{error}");
    assert!(Plugin::open(library, &Policy::default().with_allow_abort(true)).is_ok());
}

#[test]
fn looking_at_a_library_runs_nothing_of_it_and_loading_does() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, Some("PRINTING_CONSTRUCTOR"));
    let trace = place.path().join("constructor-ran");
    // In a child, because the environment of a test process is shared.
    let helper = |what: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_probe"));
        command.arg(what).arg(&library).env("CACHEKIT_BAD_C_FILE", &trace);
        cachekit_e2e::output(&mut command)
    };
    let inspected = helper("inspect");
    let printed = String::from_utf8_lossy(&inspected.stdout).into_owned() + &String::from_utf8_lossy(&inspected.stderr);
    assert!(!printed.contains("a constructor ran") && !trace.exists(), "{printed}");
    // The control: the same library, loaded, leaves both traces.
    let loaded = helper("load");
    let printed = String::from_utf8_lossy(&loaded.stdout).into_owned() + &String::from_utf8_lossy(&loaded.stderr);
    assert!(printed.contains("a constructor ran") && trace.exists(), "{printed}");
}

#[test]
fn two_plugins_opened_one_after_the_other_are_two() {
    let place = Place::new();
    let (a, b) = (artifacts::bad_c(&place, None), artifacts::c_memory());
    let (a, b) = (Plugin::open(&a, &Policy::default()).unwrap(), Plugin::open(b, &Policy::default()).unwrap());
    assert_ne!(a.identity().id, b.identity().id);
    let file = Plugin::open(artifacts::file_plugin(), &Policy::default()).unwrap();
    assert_eq!(file.identity().id, "cachekit.file");
    // A copy under another name is another library with statics of its own.
    let copy = place.path().join("copy.so");
    fs::copy(artifacts::c_memory(), &copy).unwrap();
    let twin = Plugin::open(&copy, &Policy::default()).unwrap().create(b"", HostServices::none()).unwrap();
    let first = b.create(b"", HostServices::none()).unwrap();
    set(&first, b"k", b"first").unwrap();
    assert_eq!(get(&twin, b"k").unwrap(), None);
    assert_eq!(first.limits().enumerates, Enumerates::Keys);
}

#[test]
fn a_library_that_was_changed_in_place_is_not_taken_for_the_new_one() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, None);
    assert!(open(&library).is_ok());
    // The loader would hand out what it has, under the digest of what it has not.
    std::io::Write::write_all(&mut fs::File::options().append(true).open(&library).unwrap(), b"\n").unwrap();
    let (text, class) = refusal(open(&library));
    assert!(class == "open" && text.contains("changed in place"), "{text}");
    // Installed the right way, the new file is another library.
    let copy = place.path().join("new.so");
    fs::copy(&library, &copy).unwrap();
    fs::rename(&copy, &library).unwrap();
    assert!(open(&library).is_ok());
}

#[test]
fn wrong_answers_are_errors_and_their_buffers_are_released() {
    let place = Place::new();
    for (variant, kind) in [
        ("LIES_LENGTH", Kind::Corrupt),
        ("LIES_HUGE", Kind::Corrupt),
        ("LIES_NULL", Kind::Corrupt),
        ("LIES_STATUS", Kind::Internal),
        ("LIES_ERROR_LENGTH", Kind::Transient),
        ("LIES_ERROR_CODE", Kind::Transient),
        ("BAD_UTF8", Kind::Transient),
        ("HUGE_ERROR", Kind::Transient),
        ("PANICS", Kind::Panic),
    ] {
        let library = artifacts::bad_c(&place, Some(variant));
        let backend = open(&library).unwrap();
        let _ = set(&backend, b"k", b"value");
        let error = get(&backend, b"k").expect_err(variant);
        println!("{variant:20} {error}");
        assert_eq!(error.kind(), kind, "{variant}: {error}");
        assert!(error.to_string().len() < 5000, "{variant}: a text of {} bytes", error.to_string().len());
        drop(backend);
        let counts = Counts::of(&library);
        assert_eq!(counts.given, counts.released, "{variant}");
        assert_eq!(counts.created, counts.destroyed, "{variant}");
    }
}

#[test]
fn a_miss_with_a_buffer_is_a_miss_and_the_buffer_is_released() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, Some("LIES_MISS"));
    let backend = open(&library).unwrap();
    set(&backend, b"k", b"value").unwrap();
    assert_eq!(get(&backend, b"k").unwrap(), None);
    drop(backend);
    let counts = Counts::of(&library);
    assert!(counts.given > 0 && counts.given == counts.released);
}

#[test]
fn a_value_of_another_key_is_refused_above_the_plugin() {
    let place = Place::new();
    let backend = open(&artifacts::bad_c(&place, Some("LIES_OTHER_VALUE"))).unwrap();
    let writer = cachekit::Cache::builder().backend(backend).without_l1().build().unwrap().blocking();
    writer.set("a", &1_u32).unwrap();
    writer.set("b", &2_u32).unwrap();
    assert_eq!(writer.get::<u32>("a").unwrap(), None);
    // The value, and the epoch of the namespace, which the store gives no more truthfully.
    assert_eq!(writer.stats().refused.get("wrong_key"), Some(&2));
}

#[test]
fn a_health_report_that_is_none_is_an_error() {
    let place = Place::new();
    let backend = open(&artifacts::bad_c(&place, Some("LIES_HEALTH"))).unwrap();
    let error = wait(async { backend.health(&soon()).await }).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
}

#[test]
fn a_page_longer_than_its_room_is_an_error_and_an_endless_scan_ends() {
    let place = Place::new();
    let many = open(&artifacts::bad_c(&place, Some("SCAN_TOO_MANY"))).unwrap();
    set(&many, b"k", b"v").unwrap();
    let cx = soon();
    let error = wait(async { many.scan().unwrap().next(b"", None, 10, &cx).await }).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");

    let endless = open(&artifacts::bad_c(&place, Some("SCAN_ENDLESS"))).unwrap();
    let cache = cachekit::Cache::builder().backend(endless).build().unwrap().blocking();
    let error = cache.clear().unwrap_err();
    assert!(matches!(error, cachekit::Error::Backend(_)), "{error}");
}
