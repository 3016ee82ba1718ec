//! What can be told about libraries without running anything of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cachekit_host::file::PluginFile;
use cachekit_host::{Inspection, LoadError};
use serde_json::{Value as Json, json};

use super::super::store::table;
use crate::exit::{Failure, Outcome};
use crate::output::escaped;
use crate::session::{Session, resolved};

/// `id, version, abi, entry, panic, arch, sha256` of one library.
pub(super) fn inspect(library: &Path, session: &Session) -> Result<Outcome, Failure> {
    let inspection = cachekit_host::inspect(&resolved(library)?)?;
    let document = json!(inspection);
    if session.output.is_json() {
        session.output.document(&document)?;
    } else {
        session.output.bytes(table(&document).as_bytes())?;
    }
    Ok(Outcome::Done)
}

/// One file of a plugin directory.
struct Found {
    path: PathBuf,
    inspection: Option<Inspection>,
    /// Why a cache would not load it.
    problem: Option<String>,
}

pub(super) fn list(dirs: &[PathBuf], session: &Session) -> Result<Outcome, Failure> {
    let mut places = session.config()?.plugin_dirs.value;
    for dir in dirs {
        places.push(resolved(dir)?);
    }
    if places.is_empty() {
        session.output.note("no plugin directories: name some in [plugins] dirs, or with --dir");
    }
    let libraries = cachekit::libraries(&places).map_err(Failure::Usage)?;
    let mut found: Vec<Found> = libraries.into_iter().map(look).collect();
    tell_duplicates(&mut found);
    if session.output.is_json() {
        let plugins: Vec<Json> = found.iter().map(document).collect();
        session.output.document(&json!({ "plugins": plugins }))?;
        return Ok(Outcome::Done);
    }
    let mut lines = String::new();
    for Found { path, inspection, problem } in &found {
        let path = escaped(path.as_os_str().as_encoded_bytes());
        match inspection {
            Some(Inspection { identity, sha256, .. }) => {
                lines.push_str(&format!("{} {}  {path}  {sha256}\n", identity.id, identity.version));
            }
            None => lines.push_str(&format!("?  {path}\n")),
        }
        if let Some(problem) = problem {
            lines.push_str(&format!("  problem: {problem}\n"));
        }
    }
    session.output.bytes(lines.as_bytes())?;
    Ok(Outcome::Done)
}

fn look(path: PathBuf) -> Found {
    let permissions = PluginFile::open(&path).and_then(|file| file.check_permissions());
    let (inspection, unreadable) = match cachekit_host::inspect(&path) {
        Ok(inspection) => (Some(inspection), None),
        Err(error) => (None, Some(error)),
    };
    let problem = unreadable.or(permissions.err()).map(whole);
    Found { path, inspection, problem }
}

fn whole(error: LoadError) -> String {
    Failure::Plugin(error).lines().join(": ")
}

/// An id that stands twice cannot be loaded by id.
fn tell_duplicates(found: &mut [Found]) {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for inspection in found.iter().filter_map(|found| found.inspection.as_ref()) {
        *count.entry(inspection.identity.id.clone()).or_default() += 1;
    }
    for found in found.iter_mut() {
        let Some(inspection) = &found.inspection else { continue };
        let id = &inspection.identity.id;
        if count.get(id).is_some_and(|count| *count > 1) && found.problem.is_none() {
            found.problem =
                Some(format!("several libraries have the id {id}; remove all but one, or name one by path"));
        }
    }
}

fn document(found: &Found) -> Json {
    let Found { path, inspection, problem } = found;
    let field = |get: fn(&Inspection) -> &str| inspection.as_ref().map(get);
    json!({
        "id": field(|inspection| &inspection.identity.id),
        "version": field(|inspection| &inspection.identity.version),
        "path": path.to_string_lossy(),
        "sha256": field(|inspection| &inspection.sha256),
        "problem": problem,
    })
}
