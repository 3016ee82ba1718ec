//! Libraries, built once per test process by whoever would build them: cargo, another compiler, `cc`, `make`. Where they
//! end up is read from cargo's messages.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value as Json;

use crate::{Place, output, root};

/// What is built from the workspace.
struct Workspace {
    program: PathBuf,
    libraries: HashMap<&'static str, PathBuf>,
}

/// Our backends, by the names of their libraries.
const BACKENDS: [&str; 4] =
    ["cachekit_backend_cachekitio", "cachekit_backend_file", "cachekit_backend_memcached", "cachekit_backend_redis"];

/// All of them in one go: apart, each would compile its dependencies with features of its own.
fn workspace() -> &'static Workspace {
    static BUILT: OnceLock<Workspace> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = cargo();
        own(build.args(["build", "-p", "cachekit-cli"]));
        for backend in BACKENDS {
            build.args(["-p", &backend.replace('_', "-")]);
        }
        let messages: Vec<Json> = messages(&mut build).collect();
        let program = messages.iter().filter_map(|message| message["executable"].as_str()).next_back();
        let program = program.unwrap_or_else(|| panic!("{build:?} made no program")).into();
        let libraries = BACKENDS.map(|name| (name, library(&messages, name)));
        Workspace { program, libraries: libraries.into() }
    })
}

/// Our File backend as a library.
pub fn file_plugin() -> &'static Path {
    &workspace().libraries["cachekit_backend_file"]
}

/// Our Redis backend as a library.
pub fn redis_plugin() -> &'static Path {
    &workspace().libraries["cachekit_backend_redis"]
}

/// Our Memcached backend as a library.
pub fn memcached_plugin() -> &'static Path {
    &workspace().libraries["cachekit_backend_memcached"]
}

/// Our cachekit.io backend as a library.
pub fn cachekitio_plugin() -> &'static Path {
    &workspace().libraries["cachekit_backend_cachekitio"]
}

/// The command-line program.
pub fn program() -> &'static Path {
    &workspace().program
}

/// The reference store of the conformance kit.
pub fn memory_plugin() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| cdylib(fixture(cargo().arg("build"), "memory"), "memory_plugin"))
}

/// The example plugin for stores behind HTTP, in the folder that its own tests are built in.
pub fn http_plugin() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = cargo();
        // With its tests, so that what they have built is not built again with other features.
        build.args(["build", "--tests", "--manifest-path"]).arg(root().join("plugins-example/http/Cargo.toml"));
        cdylib(build.env("CARGO_TARGET_DIR", root().join("target/http")), "cachekit_http")
    })
}

/// The example on the SDK of AWS. With the features of its own tests and in their folder, so that the SDK is compiled once.
pub fn dynamodb_plugin() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = cargo();
        build.args(["build", "--tests", "--manifest-path"]).arg(root().join("plugins-example/dynamodb/Cargo.toml"));
        cdylib(build.env("CARGO_TARGET_DIR", root().join("target/dynamodb")), "cachekit_dynamodb")
    })
}

/// The plugin that misbehaves as its options say.
pub fn chaos_plugin() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| cdylib(fixture(cargo().arg("build"), "chaos"), "chaos"))
}

/// The same, built so that its panics end the process.
pub fn aborting_plugin() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = cargo();
        build.args(["--config", "profile.dev.panic=\"abort\"", "build", "--no-default-features"]);
        build.env("CARGO_TARGET_DIR", target("abort"));
        cdylib(fixture(&mut build, "chaos"), "chaos")
    })
}

/// The same, built against a contract in which one field has another type of the same place.
pub fn skewed_plugin() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let copy = target("skew-sources");
        for part in ["cachekit-abi", "cachekit-plugin", "tests/fixtures/chaos"] {
            copy_tree(&root().join(part), &copy.join(part));
        }
        let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let (head, rest) = manifest.split_once("members = [").unwrap();
        let (_, tail) = rest.split_once("]\n").unwrap();
        let members = "\"cachekit-abi\", \"cachekit-plugin\"";
        fs::write(copy.join("Cargo.toml"), format!("{head}members = [{members}]\n{tail}")).unwrap();
        fs::copy(root().join("Cargo.lock"), copy.join("Cargo.lock")).unwrap();
        let backend = copy.join("cachekit-abi/src/backend.rs");
        let source = fs::read_to_string(&backend).unwrap();
        // In front of a pointer, so that every offset and the size stay as they are.
        let skewed =
            source.replacen("    pub flags: u32,\n    /// Fills `out`", "    pub flags: u16,\n    /// Fills `out`", 1);
        assert_ne!(source, skewed, "the field that the test changes is gone");
        fs::write(&backend, skewed).unwrap();
        let mut build = cargo();
        build.arg("build").env("CARGO_TARGET_DIR", target("skew"));
        build.current_dir(&copy).arg("--manifest-path").arg(copy.join("tests/fixtures/chaos/Cargo.toml"));
        cdylib(&mut build, "chaos")
    })
}

/// The File backend, built by another Rust compiler than this test, and that compiler's version.
pub fn foreign_file_plugin() -> &'static (PathBuf, String) {
    static BUILT: OnceLock<(PathBuf, String)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let (mut build, version) = foreign_cargo();
        let manifest = root().join("backends/file/Cargo.toml");
        build.current_dir(root()).arg("build").arg("--manifest-path").arg(manifest);
        build.env("CARGO_TARGET_DIR", target("foreign"));
        (cdylib(&mut build, "cachekit_backend_file"), version)
    })
}

/// A host that runs the conformance cases, built by that other compiler, and the compiler's version.
pub fn foreign_host() -> &'static (PathBuf, String) {
    static BUILT: OnceLock<(PathBuf, String)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let (mut build, version) = foreign_cargo();
        build.current_dir(root()).arg("build").env("CARGO_TARGET_DIR", target("foreign"));
        let messages: Vec<Json> = messages(fixture(&mut build, "host")).collect();
        let host = messages.iter().filter_map(|message| message["executable"].as_str()).next_back();
        (host.unwrap_or_else(|| panic!("{build:?} made no program")).into(), version)
    })
}

/// A host and libraries for a checker of memory.
pub struct Checked {
    /// The host of `tests/fixtures/host`.
    pub host: PathBuf,
    /// The reference store.
    pub memory: PathBuf,
    /// The plugin that misbehaves as its options say.
    pub chaos: PathBuf,
    /// Our File backend.
    pub file: PathBuf,
}

/// Built so that valgrind can run them: `rustix` asks for the time through the page that the kernel maps for that (the vDSO), whose
/// place it learns from the kernel behind valgrind's back, and valgrind has taken that page away: SIGSEGV at the first deadline.
/// With this flag it calls the C library, which valgrind knows. Small and a little optimised, because below valgrind the digest of
/// a library with its debug information takes a minute.
pub fn checked() -> &'static Checked {
    static BUILT: OnceLock<Checked> = OnceLock::new();
    BUILT.get_or_init(|| {
        let build = |manifest: &str| {
            let mut build = cargo();
            build.args(["build", "--manifest-path"]).arg(root().join(manifest).join("Cargo.toml"));
            build.env("RUSTFLAGS", "--cfg=rustix_use_libc").env("CARGO_TARGET_DIR", target("checked"));
            build.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
            messages(&mut build).collect::<Vec<Json>>()
        };
        let host = build("tests/fixtures/host");
        let host = host.iter().filter_map(|message| message["executable"].as_str()).next_back();
        Checked {
            host: host.expect("it is a program").into(),
            memory: library(&build("tests/fixtures/memory"), "memory_plugin"),
            chaos: library(&build("tests/fixtures/chaos"), "chaos"),
            file: library(&build("backends/file"), "cachekit_backend_file"),
        }
    })
}

/// Nightly where rustup has it, else the distribution's compiler.
fn foreign_cargo() -> (Command, String) {
    let ours = String::from_utf8(output(Command::new("rustc").arg("--version")).stdout).unwrap();
    let mut nightly = Command::new("rustup");
    nightly.args(["run", "nightly", "rustc", "--version"]);
    let found = nightly.output().ok().filter(|output| output.status.success());
    let (command, version) = match found {
        Some(output) => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo"]);
            (command, String::from_utf8(output.stdout).unwrap())
        }
        None => {
            let version = output(Command::new("/usr/bin/rustc").arg("--version"));
            let mut command = Command::new("/usr/bin/cargo");
            command.env("RUSTC", "/usr/bin/rustc");
            (command, String::from_utf8(version.stdout).unwrap())
        }
    };
    assert_ne!(ours, version, "no second Rust compiler; `cargo xtask test` installs the distribution's");
    let mut command = command;
    // What the running cargo says to its children must not reach another one.
    for variable in ["RUSTC", "CARGO", "RUSTUP_TOOLCHAIN", "RUSTDOC", "RUSTC_WRAPPER", "RUSTFLAGS", "LD_LIBRARY_PATH"] {
        if variable != "RUSTC" || version.contains("nightly") {
            command.env_remove(variable);
        }
    }
    (command, version.trim().to_owned())
}

/// Cargo for a project that is not ours, with the versions of dependencies that ours has, so that nothing is fetched for it. What it
/// builds lies in a folder that outlives the project; the library of its crate is copied to where a stranger would find it.
pub fn build_as_a_stranger(project: &Path, crate_name: &str) -> PathBuf {
    fs::copy(root().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    for step in [&["fmt", "--check"][..], &["test", "--release"], &["build", "--release"]] {
        output(cargo().args(step).current_dir(project).env("CARGO_TARGET_DIR", target("stranger")));
    }
    let name = format!("lib{crate_name}.so");
    let (built, place) = (target("stranger").join("release").join(&name), project.join("target/release"));
    fs::create_dir_all(&place).unwrap();
    fs::copy(built, place.join(&name)).unwrap();
    place.join(name)
}

/// The example plugin in plain C, built by its own Makefile.
pub fn c_memory() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = target("c-memory");
        fs::create_dir_all(&dir).unwrap();
        let library = dir.join("c-memory.so");
        let source = root().join("plugins-example/c-memory");
        output(Command::new("make").arg("--silent").arg("-C").arg(source).arg(format!("OUT={}", library.display())));
        library
    })
}

/// The same, built by clang, which comes inside of the Zig compiler.
pub fn c_memory_by_clang() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| made_by_zig("c-memory", "c-memory-by-clang", |zig| format!("CC={zig} cc")))
}

/// The example plugin in Zig, whose structures come from the header.
pub fn zig_memory() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| made_by_zig("zig-memory", "zig-memory", |zig| format!("ZIG={zig}")))
}

/// Builds an example with its Makefile and the Zig compiler, in a folder of its own.
fn made_by_zig(example: &str, name: &str, compiler: impl FnOnce(&str) -> String) -> PathBuf {
    let dir = target(name);
    fs::create_dir_all(&dir).unwrap();
    let library = dir.join(format!("{example}.so"));
    let zig = cachekit_test_servers::zig::compiler().to_str().expect("the target folder is text");
    let mut make = Command::new("make");
    make.arg("--silent").arg("-C").arg(root().join("plugins-example").join(example)).arg(compiler(zig));
    make.arg(format!("OUT={}", library.display())).arg(format!("BUILD={}", dir.join("build").display()));
    // What `zig cc` keeps belongs into the target folder as well.
    let cache = dir.join("cache");
    output(make.env("ZIG_GLOBAL_CACHE_DIR", &cache).env("ZIG_LOCAL_CACHE_DIR", &cache));
    library
}

/// A variant of the plugin in C that is wrong in many ways; `None` is the right one. A file of its own for each call,
/// because the loader knows libraries by their inode.
pub fn bad_c(place: &Place, variant: Option<&str>) -> PathBuf {
    let library = place.path().join(format!("{}.so", variant.unwrap_or("good").to_lowercase()));
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"]);
    if let Some(variant) = variant {
        cc.arg("-D").arg(variant);
    }
    cc.arg("-I").arg(root().join("cachekit-abi/include")).arg("-o").arg(&library);
    output(cc.arg(root().join("tests/fixtures/bad-c/bad.c")));
    library
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// In a folder of its own: a library that is also linked has no hash in its name, so a build with other features would
/// replace what the running `cargo test` has linked and is about to link again.
fn own(build: &mut Command) -> &mut Command {
    build.env("CARGO_TARGET_DIR", target("workspace"))
}

fn fixture<'a>(build: &'a mut Command, name: &str) -> &'a mut Command {
    build.arg("--manifest-path").arg(root().join("tests/fixtures").join(name).join("Cargo.toml"))
}

/// A folder for builds that must not disturb the workspace's own.
fn target(name: &str) -> PathBuf {
    root().join("target").join("e2e").join(name)
}

/// Builds and returns the library of the target `name`.
fn cdylib(build: &mut Command, name: &str) -> PathBuf {
    library(&messages(build).collect::<Vec<_>>(), name)
}

/// The library of the target `name` among what was built.
fn library(messages: &[Json], name: &str) -> PathBuf {
    messages
        .iter()
        .filter(|message| message["target"]["name"] == name)
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .find(|file| file.extension().is_some_and(|extension| extension == "so"))
        .unwrap_or_else(|| panic!("no library {name} was made"))
        .canonicalize()
        .expect("it was just built")
}

/// Builds and returns what cargo says of each artifact.
fn messages(build: &mut Command) -> impl Iterator<Item = Json> + use<> {
    let built = output(build.arg("--message-format=json-render-diagnostics")).stdout;
    let lines: Vec<Json> = built
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Json>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .collect();
    lines.into_iter()
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "target" {
            continue;
        }
        if source.is_dir() {
            copy_tree(&source, &copy);
        } else {
            fs::copy(&source, &copy).unwrap();
        }
    }
}
