//! Everything a cache checks before it uses a library, and what the library can do then.

use std::collections::BTreeMap;
use std::path::Path;

use cachekit::Config;
use cachekit_host::{Plugin, Policy, Support};
use serde_json::json;

use super::super::store::table;
use crate::exit::{Failure, Outcome};
use crate::session::{Session, resolved};

/// What Rust plugins export: their entry, under this name and whatever their authors append. Anything else is a leak of
/// their build that could meet a name of the host.
const ENTRY_PREFIX: &str = "cachekit_plugin_v1";

pub(super) fn verify(library: &Path, sha256: Option<&str>, session: &Session) -> Result<Outcome, Failure> {
    let path = resolved(library)?;
    let inspection = cachekit_host::inspect(&path)?;
    let plugin = Plugin::open(&path, &policy(&session.config()?, sha256)?)?;
    // The layouts are those of Rust types: where there are some, Rust made the library.
    let is_rust = plugin.layouts_checked();
    let leaked: Vec<&String> = inspection.exports.iter().filter(|name| !name.starts_with(ENTRY_PREFIX)).collect();
    if is_rust && !leaked.is_empty() {
        let reason = format!("{path:?} exports more than its entry: {leaked:?}; build it as a cdylib of its own");
        return Err(Failure::Verify(reason));
    }
    let capabilities: BTreeMap<&str, Support> = plugin.capabilities()?.into_iter().collect();
    let schema = plugin.config_schema()?;
    let mut document = json!(inspection);
    if let Some(fields) = document.as_object_mut() {
        fields.insert("path".into(), json!(path.to_string_lossy()));
        fields.insert("pinned".into(), json!(sha256.is_some()));
        fields.insert("layouts".into(), json!(if is_rust { "checked" } else { "absent" }));
        fields.insert("exports".into(), json!(inspection.exports));
        fields.insert("capabilities".into(), json!(capabilities));
        fields.insert("schema".into(), json!(schema));
    }
    if session.output.is_json() {
        session.output.document(&document)?;
    } else {
        // For people the names of the options are enough.
        let options = schema.as_ref().and_then(|schema| schema["properties"].as_object()).map(|options| options.keys());
        document["schema"] = json!(options.map(|names| names.collect::<Vec<_>>()));
        session.output.bytes(table(&document).as_bytes())?;
    }
    Ok(Outcome::Done)
}

/// What the configuration demands of plugins, and the digest of the command line.
pub(super) fn policy(config: &Config, sha256: Option<&str>) -> Result<Policy, Failure> {
    let reflect = config.plugin_reflect.value.parse().map_err(Failure::Usage)?;
    let policy = Policy::default().with_reflect(reflect).with_allow_abort(config.plugin_allow_abort.value);
    match sha256 {
        Some(digest) => {
            Ok(policy.with_sha256(digest.parse().map_err(|reason| Failure::Usage(format!("--sha256: {reason}")))?))
        }
        None => Ok(policy),
    }
}
