//! Where the SDK of a new project comes from: a checkout, or a git repository.
//!
//! Not from a registry: nothing of ours is published there yet, and a manifest that names a crate nobody of ours has
//! published takes whatever somebody else publishes under that name.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// Where the crates `cachekit-plugin` and `cachekit-conformance` are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sdk {
    /// A checkout, by its absolute path.
    Path(String),
    /// A repository, and which state of it.
    Git { url: String, state: Option<(&'static str, String)> },
}

/// What a checkout has to hold.
const CRATES: [(&str, &str); 2] =
    [("cachekit-plugin", "cachekit-plugin"), ("tests/conformance", "cachekit-conformance")];

const TAKES: &str = "--sdk takes a checkout of cachekit, such as ../cachekit, or the URL of a git repository, such as https://host/cachekit";

impl Sdk {
    /// What was given with `--sdk`.
    pub(super) fn parse(text: &OsStr) -> Result<Self, Failure> {
        let refuse = |reason: &str| Failure::Usage(format!("--sdk {text:?}: {reason}"));
        match text.to_str() {
            Some(url) if url.contains("://") || url.starts_with("git@") => git(url).map_err(|reason| refuse(&reason)),
            Some(version) if is_version(version) && !Path::new(version).exists() => {
                Err(refuse(&format!("the SDK is on no registry yet, so a version leads nowhere; {TAKES}")))
            }
            _ => Self::checkout(Path::new(text)).map_err(|reason| refuse(&format!("{reason}; {TAKES}"))),
        }
    }

    /// The checkout in which the running program was built, if it still stands there.
    pub(super) fn of_this_program() -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::io("this program cannot be found"))?;
        let found = program.ancestors().skip(1).find_map(|folder| Self::checkout(folder).ok());
        found.ok_or_else(|| {
            Failure::Usage(format!(
                "where is the SDK? The crate cachekit-plugin is on no registry yet, and this program does not stand in a \
                 checkout that has it: {TAKES}"
            ))
        })
    }

    /// A checkout, by its own folder or by that of its crate `cachekit-plugin`.
    fn checkout(path: &Path) -> Result<Self, String> {
        let path = path.canonicalize().map_err(|error| format!("it cannot be found ({error})"))?;
        let root = if path.ends_with("cachekit-plugin") && !path.join("cachekit-plugin").exists() {
            path.parent().unwrap_or(&path).to_owned()
        } else {
            path
        };
        for (folder, name) in CRATES {
            let manifest = root.join(folder).join("Cargo.toml");
            let text = std::fs::read_to_string(&manifest).unwrap_or_default();
            if !text.lines().any(|line| line.trim() == format!("name = {name:?}")) {
                return Err(format!("there is no crate {name} in {folder}/ of {root:?}"));
            }
        }
        match root.to_str() {
            Some(text) if !text.contains(char::is_control) => Ok(Self::Path(text.to_owned())),
            _ => Err("a path in Cargo.toml is text without control characters".into()),
        }
    }

    /// What stands behind `=` in Cargo's manifest for the crate in `folder` of the SDK.
    pub(super) fn dependency(&self, folder: &str) -> String {
        match self {
            Self::Path(root) => format!("path = {}", quoted(&format!("{root}/{folder}"))),
            Self::Git { url, state: None } => format!("git = {}", quoted(url)),
            Self::Git { url, state: Some((what, state)) } => {
                format!("git = {}, {what} = {}", quoted(url), quoted(state))
            }
        }
    }

    /// Where it is, for people and for documents.
    pub(super) fn place(&self) -> &str {
        match self {
            Self::Path(place) | Self::Git { url: place, .. } => place,
        }
    }

    /// The root of a checkout.
    pub(super) fn root(&self) -> Option<PathBuf> {
        match self {
            Self::Path(root) => Some(root.into()),
            Self::Git { .. } => None,
        }
    }
}

/// The git URL as Cargo takes it. The state is written as lock files write it: `?tag=v1`.
fn git(text: &str) -> Result<Sdk, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:@+%?=[]".contains(c);
    if !text.chars().all(plain) {
        return Err("a git URL holds letters, digits and -._~/:@+%?=[] alone".into());
    }
    let (url, query) = text.split_once('?').map_or((text, None), |(url, query)| (url, Some(query)));
    let state = match query.map(|query| query.split_once('=')) {
        None => None,
        Some(Some(("tag", name))) if !name.is_empty() => Some(("tag", name.to_owned())),
        Some(Some(("branch", name))) if !name.is_empty() => Some(("branch", name.to_owned())),
        Some(Some(("rev", name))) if !name.is_empty() => Some(("rev", name.to_owned())),
        Some(_) => return Err("behind the URL stands ?tag=NAME, ?branch=NAME or ?rev=HASH".into()),
    };
    // The short form of ssh, which Cargo does not take: git@host:path.
    let url = match url.strip_prefix("git@").and_then(|rest| rest.split_once(':')) {
        Some((host, path)) if !url.contains("://") => format!("ssh://git@{host}/{}", path.trim_start_matches('/')),
        _ => url.to_owned(),
    };
    let Some((scheme, rest)) = url.split_once("://") else { return Err("it has no scheme".into()) };
    if !["https", "ssh", "file"].contains(&scheme) {
        return Err(format!("{scheme}:// does not say who answers: take https://, ssh:// or file://"));
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
        return Err("a password does not belong into a manifest: leave it to git's credential helper".into());
    }
    if rest.trim_matches('/').is_empty() {
        return Err("it names no repository".into());
    }
    Ok(Sdk::Git { url, state })
}

/// Whether it looks like a version as manifests write them.
fn is_version(text: &str) -> bool {
    let digits = text.trim_start_matches(['=', '^', '~', '>', '<', ' ']);
    digits.starts_with(|c: char| c.is_ascii_digit()) && digits.chars().all(|c| c.is_ascii_digit() || ".*".contains(c))
}

/// A string of TOML. JSON writes a subset of what TOML reads, as long as there are no control characters.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Sdk, String> {
        Sdk::parse(text.as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn git_urls_are_taken_with_a_state() {
        for (text, dependency) in [
            ("https://host/a/cachekit", r#"git = "https://host/a/cachekit""#),
            ("https://host/cachekit?tag=v1.0", r#"git = "https://host/cachekit", tag = "v1.0""#),
            ("https://host/cachekit?branch=a/b", r#"git = "https://host/cachekit", branch = "a/b""#),
            ("ssh://git@host/cachekit?rev=0123abc", r#"git = "ssh://git@host/cachekit", rev = "0123abc""#),
            ("git@host:a/cachekit.git", r#"git = "ssh://git@host/a/cachekit.git""#),
            ("file:///srv/cachekit", r#"git = "file:///srv/cachekit""#),
        ] {
            assert_eq!(parse(text).unwrap().dependency("cachekit-plugin"), dependency);
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused_with_what_is_taken() {
        for (text, reason) in [
            ("0.1", "no registry yet"),
            ("^1.2", "no registry yet"),
            ("/nonexistent/cachekit", "cannot be found"),
            ("/", "there is no crate cachekit-plugin in cachekit-plugin/"),
            ("http://host/cachekit", "https://"),
            ("https://user:secret@host/cachekit", "credential helper"),
            ("https://host/cachekit?tag=", "?tag=NAME"),
            ("https://host/cachekit?x=y", "?tag=NAME"),
            ("https://host/\"cachekit", "letters, digits"),
            ("https://", "names no repository"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(!parse("https://user:secret@host/cachekit").unwrap_err().contains("registry"));
    }

    #[test]
    fn a_checkout_is_known_by_its_crates() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap();
        for path in [root.clone(), root.join("cachekit-plugin"), root.join("tests/..")] {
            assert_eq!(Sdk::parse(path.as_os_str()).unwrap(), Sdk::Path(root.to_str().unwrap().into()), "{path:?}");
        }
    }

    #[test]
    fn a_path_is_quoted_for_the_manifest() {
        let sdk = Sdk::Path("/home/a \"b\"/cachekit".into());
        assert_eq!(sdk.dependency("cachekit-plugin"), r#"path = "/home/a \"b\"/cachekit/cachekit-plugin""#);
    }
}
