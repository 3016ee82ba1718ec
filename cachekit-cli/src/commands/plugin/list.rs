//! What can be told about libraries without running anything of them: which are where, and whether caches would take them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cachekit_host::file::PluginFile;
use cachekit_host::{Inspection, LoadError, LockFile};
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
    /// What the lock file says of its bytes: `yes`, `no`, or `other` for other bytes of the same id.
    locked: &'static str,
    /// Why a cache would not load it by its id.
    problem: Option<String>,
}

pub(super) fn list(dirs: &[PathBuf], session: &Session) -> Result<Outcome, Failure> {
    let config = session.config()?;
    let mut places: Vec<(PathBuf, String)> =
        cachekit::plugin_search_path(&config).into_iter().map(|(dir, source)| (dir, source.to_string())).collect();
    for dir in dirs {
        places.push((resolved(dir)?, "--dir".into()));
    }
    if places.is_empty() {
        session
            .output
            .note("no plugin directories: name some in [plugins] dirs, in CACHEKIT_PLUGIN_PATH, or with --dir");
    }
    let lock = match &config.plugin_trust.lock().value {
        Some(path) => LockFile::read(path)?,
        None => None,
    };
    let paths: Vec<PathBuf> = places.iter().map(|(dir, _)| dir.clone()).collect();
    let libraries = cachekit::libraries(&paths).map_err(Failure::Usage)?;
    let mut found: Vec<Found> = libraries.into_iter().map(|path| look(path, lock.as_ref())).collect();
    if config.plugin_trust.require().value.hash {
        tell_unlocked(&mut found);
    }
    tell_duplicates(&mut found);
    if session.output.is_json() {
        let plugins: Vec<Json> = found.iter().map(document).collect();
        let dirs: Vec<Json> = places.iter().map(|(dir, source)| json!({ "dir": dir, "source": source })).collect();
        let require = config.plugin_trust.require().value.to_string();
        let lock = lock.as_ref().map(|lock| lock.path().to_string_lossy());
        session.output.document(&json!({ "dirs": dirs, "require": require, "lock": lock, "plugins": plugins }))?;
        return Ok(Outcome::Done);
    }
    let mut lines = String::new();
    for Found { path, inspection, locked, problem } in &found {
        let path = escaped(path.as_os_str().as_encoded_bytes());
        match inspection {
            Some(Inspection { identity, sha256, .. }) => {
                lines.push_str(&format!("{} {}  {path}  {sha256}  locked: {locked}\n", identity.id, identity.version));
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

fn look(path: PathBuf, lock: Option<&LockFile>) -> Found {
    let permissions = PluginFile::open(&path).and_then(|file| file.check_permissions());
    let (inspection, unreadable) = match cachekit_host::inspect(&path) {
        Ok(inspection) => (Some(inspection), None),
        Err(error) => (None, Some(error)),
    };
    let in_lock = inspection.as_ref().and_then(|found| Some((found, lock?.get(&found.identity.id)?)));
    let locked = match in_lock {
        Some((found, locked)) if locked.sha256.eq_ignore_ascii_case(&found.sha256) => "yes",
        Some(_) => "other",
        None => "no",
    };
    let problem = unreadable.or(permissions.err()).map(whole);
    Found { path, inspection, locked, problem }
}

fn whole(error: LoadError) -> String {
    Failure::Plugin(error).lines().join(": ")
}

fn tell_unlocked(found: &mut [Found]) {
    for found in found.iter_mut().filter(|found| found.inspection.is_some() && found.problem.is_none()) {
        let problem = match found.locked {
            "yes" => continue,
            "other" => "the lock file has other bytes for this id; was it updated or swapped?",
            _ => "the lock file does not know it, so it is loaded only where a [[tier]] names its digest",
        };
        found.problem = Some(problem.into());
    }
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
    let Found { path, inspection, locked, problem } = found;
    let field = |get: fn(&Inspection) -> &str| inspection.as_ref().map(get);
    json!({
        "id": field(|inspection| &inspection.identity.id),
        "version": field(|inspection| &inspection.identity.version),
        "abi": field(|inspection| &inspection.identity.abi),
        "path": path.to_string_lossy(),
        "sha256": field(|inspection| &inspection.sha256),
        "locked": locked,
        "problem": problem,
    })
}
