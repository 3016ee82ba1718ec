//! Everything a cache checks before it uses a library, told check by check, and what the library can do then.

use std::collections::BTreeMap;
use std::path::Path;

use cachekit::Config;
use cachekit::config::schema::Schema;
use cachekit_host::{Check, LoadError, Plugin, Policy, Require, Support};
use serde_json::{Value as Json, json};

use super::super::store::table;
use crate::exit::{Failure, Outcome};
use crate::output::{Output, escaped};
use crate::session::{Session, resolved};

/// What Rust plugins export: their entry, under this name and whatever their authors append. Anything else is a leak of
/// their build that could meet a name of the host.
const ENTRY_PREFIX: &str = "cachekit_plugin_v1";

pub(super) fn verify(
    library: &Path,
    sha256: Option<&str>,
    unpinned: bool,
    session: &Session,
) -> Result<Outcome, Failure> {
    let path = resolved(library)?;
    let config = session.config()?;
    let policy = if unpinned { policy_of_files(&config)? } else { policy(&config, sha256)? };
    let mut checks = Vec::new();
    let mut tell = |check: Check| checks.push(check);
    let (plugin, exports) = match loaded(&path, &policy, &mut tell) {
        Ok(loaded) => loaded,
        Err(error) => {
            if !session.output.is_json() {
                session.output.bytes(lines(&checks, Some(class_of(&error))).as_bytes())?;
            }
            return Err(error);
        }
    };
    let inspection = cachekit_host::inspect(&path)?;
    let capabilities: BTreeMap<&str, Support> = plugin.capabilities()?.into_iter().collect();
    let schema = plugin.config_schema()?;
    let provenance = plugin.provenance();
    let mut document = json!(inspection);
    if let Some(fields) = document.as_object_mut() {
        fields.insert("path".into(), json!(path.to_string_lossy()));
        fields.insert("pinned".into(), json!(!provenance.pinned_by.is_empty()));
        fields.insert("pinned_by".into(), json!(provenance.pinned_by));
        fields.insert("signer".into(), json!(provenance.signer.as_ref().map(|signer| &signer.key)));
        fields
            .insert("trusted_comment".into(), json!(provenance.signer.as_ref().map(|signer| &signer.trusted_comment)));
        fields.insert("load_mode".into(), json!(provenance.load_mode.to_string()));
        fields.insert("layouts".into(), json!(if plugin.layouts_checked() { "checked" } else { "absent" }));
        fields.insert("exports".into(), json!(exports));
        fields.insert("capabilities".into(), json!(capabilities));
        fields.insert("schema".into(), json!(schema));
        fields.insert(
            "schema_left_to_plugin".into(),
            json!(schema.as_ref().map(|schema| Schema::new(schema).unjudged())),
        );
    }
    show(document, &checks, session.output)?;
    Ok(Outcome::Done)
}

/// The library, through the door of caches, and then held to what only a tool asks: what else it exports.
fn loaded(path: &Path, policy: &Policy, tell: &mut dyn FnMut(Check)) -> Result<(Plugin, Vec<String>), Failure> {
    let plugin = Plugin::open_telling(path, policy, tell)?;
    let exports = cachekit_host::inspect(path)?.exports;
    // The layouts are those of Rust types: where there are some, Rust made the library.
    let leaked: Vec<&String> = exports.iter().filter(|name| !name.starts_with(ENTRY_PREFIX)).collect();
    if plugin.layouts_checked() && !leaked.is_empty() {
        let reason = format!("{path:?} exports more than its entry: {leaked:?}; build it as a cdylib of its own");
        return Err(Failure::Verify(reason));
    }
    Ok((plugin, exports))
}

fn class_of(error: &Failure) -> &'static str {
    match error {
        Failure::Plugin(error) => error.class(),
        _ => "exports",
    }
}

fn show(mut document: Json, checks: &[Check], output: Output) -> Result<(), Failure> {
    if output.is_json() {
        let checks: Vec<Json> =
            checks.iter().map(|check| json!({ "name": check.name, "ok": true, "found": check.found })).collect();
        document["checks"] = json!(checks);
        return output.document(&document);
    }
    // For people the names of the options are enough.
    let options =
        document["schema"]["properties"].as_object().map(|options| options.keys().cloned().collect::<Vec<_>>());
    document["schema"] = json!(options);
    output.bytes((lines(checks, None) + &table(&document)).as_bytes())
}

/// One line for each check, and one for the first that was not passed.
fn lines(checks: &[Check], failed: Option<&str>) -> String {
    let mut lines = String::new();
    for check in checks {
        lines.push_str(&format!("{:<12} ok      {}\n", check.name, escaped(check.found.as_bytes())));
    }
    if let Some(name) = failed {
        lines.push_str(&format!("{name:<12} FAILED  nothing further was looked at\n"));
    }
    lines
}

/// What the configuration demands of plugins, and the digest of the command line.
fn policy(config: &Config, sha256: Option<&str>) -> Result<Policy, Failure> {
    if let Some(Err(reason)) = sha256.map(str::parse::<cachekit_host::Sha256>) {
        return Err(Failure::Usage(format!("--sha256: {reason}")));
    }
    // A plugin that the lock file refuses is a refused plugin, and so is one whose lock file cannot be believed.
    cachekit::plugin_policy(config, sha256, "--sha256").map_err(|error| match error {
        cachekit::ConfigError::Plugin { source: error @ LoadError::Lock { .. }, .. } => Failure::Plugin(error),
        other => Failure::Config(other),
    })
}

/// The same without what speaks for the bytes: for work on a library that somebody names by hand, such as its author.
pub(super) fn policy_of_files(config: &Config) -> Result<Policy, Failure> {
    let mut policy = policy(config, None)?.with_require(Require::NONE).with_trusted_keys(Vec::new());
    policy.lock = None;
    Ok(policy)
}
