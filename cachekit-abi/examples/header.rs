//! Writes the C header of the contract: to standard output, or to the file named as argument.
//!
//! `cargo xtask header` runs it. The declarations come from the Rust source through cbindgen, the rules at the top from
//! the documentation of the crate, so that the two sides cannot drift apart; `tests/header.rs` compares the committed
//! file and compiles it against the layouts that rustc chose.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Before the constants: what an author needs to export a plugin.
const PRELUDE: &str = include_str!("header/prelude.h");
/// After the declarations: short forms for what every plugin does.
const TRAILER: &str = include_str!("header/trailer.h");
const GUARD: &str = "CACHEKIT_PLUGIN_H";

fn main() -> ExitCode {
    let written = header().and_then(|text| match std::env::args_os().nth(1) {
        None => {
            print!("{text}");
            Ok(())
        }
        Some(path) => {
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", PathBuf::from(path).display()))
        }
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The text of the header.
pub(crate) fn header() -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = Source::read(root)?;
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml"))?;
    // cbindgen would close its own guard before the trailer.
    config.header = Some(format!("{}\n#ifndef {GUARD}\n#define {GUARD}", source.head()));
    config.after_includes = Some(format!("\n{}{PRELUDE}", source.defines()));
    config.trailer = Some(format!("{TRAILER}\n#endif // {GUARD}"));
    // No function of the crate reaches these types, so cbindgen must be told of each.
    config.export.include = source.types();

    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in &source.files {
        builder = builder.with_src(&file.path);
    }
    let bindings = builder.generate().map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    Ok(tidy(&text))
}

/// One module of the contract.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// The modules whose items are the contract: those that `lib.rs` re-exports whole. `reflect` is not among them, since
/// it speaks to Rust only.
pub(crate) struct Source {
    lib: String,
    pub(crate) files: Vec<File>,
}

impl Source {
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
        let lib = read(&root.join("src/lib.rs"))?;
        let mut files = Vec::new();
        for line in lib.lines() {
            if let Some(module) = line.strip_prefix("pub use ").and_then(|rest| rest.strip_suffix("::*;")) {
                let path = root.join("src").join(module).with_extension("rs");
                files.push(File { text: read(&path)?, path });
            }
        }
        Ok(Self { lib, files })
    }

    /// The documentation of the crate as a C comment.
    fn head(&self) -> String {
        let mut head =
            "// Generated from the crate cachekit-abi by `cargo xtask header`. Do not edit.\n//\n".to_owned();
        for line in self.lib.lines().map_while(|line| line.strip_prefix("//!")) {
            let _ = writeln!(head, "//{line}");
        }
        head
    }

    /// Every `pub struct` and `pub type`.
    fn types(&self) -> Vec<String> {
        let lines = self.files.iter().flat_map(|file| file.text.lines());
        lines
            .filter_map(|line| line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub type ")))
            .filter_map(|rest| rest.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    }

    /// The constants that cbindgen does not translate: text, and the magic number, which is computed.
    fn defines(&self) -> String {
        let mut defines = String::new();
        for file in &self.files {
            let mut docs = String::new();
            for line in file.text.lines() {
                if let Some(doc) = line.strip_prefix("///") {
                    let _ = writeln!(docs, "//{doc}");
                    continue;
                }
                let declared = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(": "));
                let value = match declared {
                    // A library without abi_stable has nothing to answer to it.
                    Some(("CK_ID_REFLECT", _)) => None,
                    Some(("CK_MAGIC", _)) => Some(format!("UINT64_C({:#x})", cachekit_abi::CK_MAGIC)),
                    Some((_, rest)) => rest.strip_prefix("&str = ").map(|text| text.trim_end_matches(';').to_owned()),
                    None => None,
                };
                if let (Some((name, _)), Some(value)) = (declared, value) {
                    let _ = writeln!(defines, "{docs}#define {name} {value}\n");
                }
                docs.clear();
            }
        }
        defines
    }
}

/// Makes C of what is still Rust: rustdoc's links become plain names (``[`CkOut`](crate::CkOut)`` reads `CkOut`, `A::b`
/// reads `A.b`), negative numbers get their parentheses, runs of empty lines become one. The constants of a type
/// (`CkError::EMPTY`) go: C authors write `{0}`.
fn tidy(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = if let Some(at) = line.find("//") {
            let (code, comment) = line.split_at(at);
            format!("{code}{}", plain_comment(comment))
        } else if line.starts_with("#define Ck") {
            while lines.last().is_some_and(|line| line.starts_with("//")) {
                lines.pop();
            }
            continue;
        } else if let (true, Some((name, number))) = (line.starts_with("#define "), line.split_once(" -")) {
            format!("{name} (-{number})")
        } else {
            line.trim_end().to_owned()
        };
        if !(line.is_empty() && lines.last().is_some_and(String::is_empty)) {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

fn plain_comment(comment: &str) -> String {
    let mut plain = comment.replace("[`", "`").replace("`]", "`").replace("::", ".");
    while let Some(start) = plain.find("(crate.") {
        let Some(len) = plain[start..].find(')') else { break };
        plain.replace_range(start..=start + len, "");
    }
    plain.trim_end().to_owned()
}
