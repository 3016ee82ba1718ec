//! What a plugin may be called. The name becomes an id that operators read, a folder, a file, a crate and part of a symbol, so
//! it is held to what all of these take.

use crate::cli::scaffold::Lang;
use crate::exit::Failure;

/// Longer ones are no names. Hosts take 128 bytes, and the symbol of the entry has 19 in front.
const MAX_NAME: usize = 64;

/// Words that cannot be the name of a crate, of every edition.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Crates that the project has already, from the language or from its manifest.
const TAKEN: &[&str] = &[
    "alloc",
    "core",
    "proc_macro",
    "std",
    "test",
    "cachekit_conformance",
    "cachekit_plugin",
    "schemars",
    "serde",
    "serde_json",
];

/// An id that is also fit for files and crates.
#[derive(Debug)]
pub(super) struct Name(String);

impl Name {
    pub(super) fn parse(text: &str, lang: Lang) -> Result<Self, Failure> {
        let refuse = |reason: &str| Err(Failure::Usage(format!("NAME {text:?}: {reason}")));
        let separator = |c: char| "._-".contains(c);
        if text.is_empty() || text.len() > MAX_NAME {
            return refuse("takes 1 to 64 characters, such as acme.shelf");
        }
        if text.contains('/') || text == "." || text == ".." {
            return refuse("is a name, not a path, such as acme.shelf; the folder is chosen with --dir");
        }
        if text.chars().any(|c| c.is_ascii_uppercase()) {
            return refuse(&format!("takes lower-case letters: {}", text.to_ascii_lowercase()));
        }
        if !text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || separator(c)) {
            return refuse("takes letters a-z, digits and . _ -, such as acme.shelf");
        }
        let twice = text.chars().zip(text.chars().skip(1)).any(|(a, b)| separator(a) && separator(b));
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) || text.ends_with(separator) || twice {
            return refuse("begins with a letter, and each . _ - stands between two letters or digits");
        }
        if text.starts_with("cachekit.") {
            return refuse("ids of the vendor `cachekit` are the project's own; take yours, such as acme.shelf");
        }
        let name = Self(text.to_owned());
        let krate = name.crate_name();
        if lang == Lang::Rust && KEYWORDS.contains(&krate.as_str()) {
            return refuse(&format!("is a word of Rust, and no crate can be called so; acme.{text} can"));
        }
        if lang == Lang::Rust && TAKEN.contains(&krate.as_str()) {
            return refuse(&format!("is a crate that the project needs; acme.{text} is free"));
        }
        Ok(name)
    }

    /// What the plugin says it is; also the name of the folder, and of the library of a plugin in C.
    pub(super) fn id(&self) -> &str {
        &self.0
    }

    /// The package in Cargo's manifest, which takes no dots.
    pub(super) fn package(&self) -> String {
        self.0.replace('.', "-")
    }

    /// The crate, as Rust code writes it.
    pub(super) fn crate_name(&self) -> String {
        self.0.replace(['.', '-'], "_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_packages_and_crates() {
        for (text, package, krate) in [
            ("shelf", "shelf", "shelf"),
            ("acme.shelf", "acme-shelf", "acme_shelf"),
            ("acme.key-value_2", "acme-key-value_2", "acme_key_value_2"),
        ] {
            let name = Name::parse(text, Lang::Rust).unwrap();
            assert_eq!((name.id(), &*name.package(), &*name.crate_name()), (text, package, krate));
        }
    }

    #[test]
    fn what_would_be_no_file_no_crate_or_no_id_is_refused_with_the_reason() {
        let long = "a".repeat(65);
        for (text, reason) in [
            ("", "1 to 64"),
            (long.as_str(), "1 to 64"),
            ("acme/shelf", "--dir"),
            ("../shelf", "--dir"),
            ("..", "--dir"),
            ("/etc/shelf", "--dir"),
            ("Acme.Shelf", "acme.shelf"),
            ("acme shelf", "a-z"),
            ("acmé", "a-z"),
            ("acme\"; rm", "a-z"),
            ("acme\n", "a-z"),
            ("-shelf", "begins with a letter"),
            (".shelf", "begins with a letter"),
            ("7shelf", "begins with a letter"),
            ("shelf.", "between"),
            ("acme..shelf", "between"),
            ("acme.-shelf", "between"),
            ("cachekit.redis", "project's own"),
            ("match", "word of Rust"),
            ("async", "word of Rust"),
            ("serde", "acme.serde"),
            ("cachekit-plugin", "needs"),
        ] {
            let error = Name::parse(text, Lang::Rust).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        // C knows no crates.
        assert!(Name::parse("match", Lang::C).is_ok());
    }
}
