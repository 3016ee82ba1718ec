//! Cargo, asked the way that does not break: artifacts are found in its JSON messages, never by guessing where they lie.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

use crate::root;

/// Cargo in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds with `arguments` and returns the one artifact of `package` of a `kind` (`cdylib`, `bin`, `example`).
pub(crate) fn build(arguments: &[&str], package: &str, kind: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(arguments).arg("--message-format=json-render-diagnostics");
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("{command:?} cannot be started"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}", output.status);
    }
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Json = serde_json::from_slice(line).context("cargo's messages are JSON")?;
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        // `path+file:///…/backends/file#cachekit-backend-file@0.1.0`, or without the name where it is the folder's.
        let of_package = message["package_id"].as_str().is_some_and(|id| {
            let (place, version) = id.rsplit_once('#').unwrap_or((id, ""));
            version.split('@').next() == Some(package) || place.ends_with(&format!("/{package}"))
        });
        let of_kind = message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind));
        if !of_package || !of_kind {
            continue;
        }
        let file = match kind {
            "cdylib" => message["filenames"]
                .as_array()
                .and_then(|names| names.iter().filter_map(Json::as_str).find(|name| name.ends_with(".so"))),
            _ => message["executable"].as_str(),
        };
        if let Some(file) = file {
            return Ok(PathBuf::from(file));
        }
    }
    bail!("{command:?} made no {kind} of {package}")
}
