//! Mistakes in `#[cached(…)]` are told where they stand, with what to write instead.
//!
//! Each file of `cached_refusals/` is compiled against the library that this test was built with, and what the compiler says
//! is compared with the `.stderr` beside it: messages, places and notes, which are ours, not the drawing around them, which
//! is the compiler's. `CACHEKIT_OVERWRITE=1` writes the expectations anew, to be read before they are kept.
//!
//! The compiler is called by hand. The crate `trybuild` builds the library and all it depends on once more in a folder of
//! its own: 167 s of processor time, for eight files that take one each.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// What this test was compiled with, or what cargo runs now.
fn compiler() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// Compiles a file as a program that uses the library; what the compiler said, and whether it was content.
fn compile(file: &Path, library: &Path, out: &Path) -> (bool, String) {
    let dependencies = library.parent().unwrap();
    let mut rustc = compiler();
    rustc.current_dir(env!("CARGO_MANIFEST_DIR")).arg(file).args([
        "--edition=2024",
        "--crate-type=bin",
        "--emit=metadata",
    ]);
    rustc.arg("--extern").arg(format!("cachekit={}", library.display()));
    rustc.arg("-L").arg(format!("dependency={}", dependencies.display()));
    rustc.args(["--color=never", "-Awarnings", "-o"]).arg(out.join("case.rmeta"));
    let serde = newest(dependencies, "libserde-").into_iter().next().expect("serde is a dependency");
    rustc.arg("--extern").arg(format!("serde={}", serde.display()));
    let output = rustc.output().expect("the compiler starts");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The libraries of that name, newest first: an older build of other features may lie beside the one that is meant.
fn newest(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(prefix) && name.ends_with(".rlib")
    };
    let mut found: Vec<PathBuf> = files.filter(is_library).collect();
    let written = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    found.sort_by_key(|path| std::cmp::Reverse(written(path)));
    found
}

/// The library that compiles a file without mistakes, which is the control of all the others.
fn library(out: &Path) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let control = Path::new("tests/cached_refusals/control/accepted.rs");
    let mut said = String::new();
    for library in newest(deps.parent().unwrap(), "libcachekit-") {
        let (content, words) = compile(control, &library, out);
        if content {
            return library;
        }
        said = words;
    }
    panic!("no build of the library compiles {}:\n{said}", control.display());
}

/// What is ours of what the compiler said.
fn ours(said: &str) -> String {
    let mut kept = Vec::new();
    for line in said.lines().map(str::trim) {
        let message = line.starts_with("error") && !line.starts_with("error: aborting");
        let place = line.starts_with("--> tests/cached_refusals/")
            && kept.last().is_some_and(|last: &String| last.starts_with("error"));
        let note = line.starts_with("= note: leave it out") || line.starts_with("= note: or say");
        let label = line.contains("^ this is no");
        if message || place || note || label {
            kept.push(line.trim_start_matches(['|', ' ']).to_owned());
        }
    }
    kept.join("\n") + "\n"
}

#[test]
fn mistakes_are_told_with_what_to_write_instead() {
    let out = tempfile::tempdir().unwrap();
    let library = library(out.path());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cached_refusals");
    let overwrite = std::env::var_os("CACHEKIT_OVERWRITE").is_some();
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        cases += 1;
        let relative = Path::new("tests/cached_refusals").join(path.file_name().unwrap());
        let (content, said) = compile(&relative, &library, out.path());
        let (expected, ours) = (path.with_extension("stderr"), ours(&said));
        if overwrite {
            std::fs::write(&expected, &ours).unwrap();
        }
        if content {
            wrong.push(format!("{} compiles", relative.display()));
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != ours {
            wrong.push(format!("{}: the compiler said\n{ours}", relative.display()));
        }
    }
    assert!(cases >= 8 && wrong.is_empty(), "{cases} cases\n{}", wrong.join("\n"));
}
