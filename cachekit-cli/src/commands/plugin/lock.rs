//! The lock file: which bytes the ids of plugins stand for. What is written was looked at and not run.

use std::path::{Path, PathBuf};

use cachekit::config::LibraryChoice;
use cachekit::{Config, TierChoice};
use cachekit_host::file::PluginFile;
use cachekit_host::{LOCK_FILE, LockFile, Locked};
use serde_json::{Value as Json, json};

use crate::exit::{Class, Failure, Outcome};
use crate::session::{Session, resolved};

pub(super) fn lock(
    libraries: &[PathBuf],
    check: bool,
    place: Option<&Path>,
    session: &Session,
) -> Result<Outcome, Failure> {
    let config = session.config()?;
    let place = place.or(config.plugin_trust.lock_place()).ok_or_else(|| {
        Failure::Usage(format!("there is no configuration file to put {LOCK_FILE} beside; name it with --lock PATH"))
    })?;
    let place = std::path::absolute(place).map_err(Failure::io(format!("{place:?} has no absolute form")))?;
    let old = LockFile::read(&place)?;
    let before = old.clone().unwrap_or_else(|| LockFile::new(&place));
    // Named files are added to what is there; otherwise what is there now is all there is.
    let mut after = if libraries.is_empty() { LockFile::new(&place) } else { before.clone() };
    let files = if libraries.is_empty() {
        everything(&config)?
    } else {
        libraries.iter().map(|path| resolved(path)).collect::<Result<_, _>>()?
    };
    if files.is_empty() {
        session.output.warn("there is no plugin to lock: the plugin directories are empty and no [[tier]] names one");
    }
    let mut seen: Vec<(String, PathBuf)> = Vec::new();
    for path in files {
        let locked = looked_at(&path)?;
        if let Some((_, other)) = seen.iter().find(|(id, _)| *id == locked.id) {
            let id = &locked.id;
            return Err(Failure::Verify(format!("{other:?} and {path:?} both have the id {id}; remove one of them")));
        }
        seen.push((locked.id.clone(), path));
        after.insert(locked).map_err(Failure::Usage)?;
    }
    let changes = changes(&before, &after);
    let is_new = old.is_none();
    let changed = is_new || !changes.is_empty() || old.as_ref().map(LockFile::render) != Some(after.render());
    if changed && !check {
        after.write().map_err(Failure::io(format!("{place:?} cannot be written")))?;
    }
    let document = || {
        json!({
            "lock": place.to_string_lossy(), "changed": changed, "written": changed && !check,
            "plugins": after.plugins().collect::<Vec<_>>(), "changes": changes,
        })
    };
    session.output.either(document, &text(&place, &changes, changed, check))?;
    Ok(if check && changed { Outcome::Bad(Class::Plugin) } else { Outcome::Done })
}

/// Every library that a cache of this configuration could load.
fn everything(config: &Config) -> Result<Vec<PathBuf>, Failure> {
    let dirs: Vec<PathBuf> = cachekit::plugin_search_path(config).into_iter().map(|(dir, _)| dir).collect();
    let found = cachekit::libraries(&dirs).map_err(Failure::Usage)?;
    // What is no plugin of this host lies there unheeded, as when a plugin is looked for.
    let mut files: Vec<PathBuf> = found.into_iter().filter(|path| cachekit_host::inspect(path).is_ok()).collect();
    let tiers = config.fronts.iter().map(|front| &front.choice.value).chain(&config.tier.value);
    for tier in tiers {
        if let TierChoice::Plugin { library: LibraryChoice::Path(path), .. } = tier
            && !files.contains(path)
        {
            files.push(path.clone());
        }
    }
    files.sort();
    Ok(files)
}

/// A file that others may write is pinned by nothing that is written down.
fn looked_at(path: &Path) -> Result<Locked, Failure> {
    PluginFile::open(path)?.check_permissions()?;
    Ok(Locked::of(path, &cachekit_host::inspect(path)?))
}

/// `{id, what, from, to}` of each plugin that is another now.
fn changes(before: &LockFile, after: &LockFile) -> Vec<Json> {
    let mut changes = Vec::new();
    for now in after.plugins() {
        match before.get(&now.id) {
            None => changes.push(json!({ "id": now.id, "what": "added", "from": null, "to": now.version })),
            Some(old) if old.sha256 != now.sha256 || old.version != now.version => {
                changes.push(json!({ "id": now.id, "what": "changed", "from": old.version, "to": now.version }));
            }
            Some(_) => {}
        }
    }
    for old in before.plugins().filter(|old| after.get(&old.id).is_none()) {
        changes.push(json!({ "id": old.id, "what": "removed", "from": old.version, "to": null }));
    }
    changes
}

fn text(place: &Path, changes: &[Json], changed: bool, check: bool) -> String {
    let mut text = match (changed, check) {
        (false, _) => format!("{} is up to date", place.display()),
        (true, false) => format!("{} written", place.display()),
        (true, true) => format!("{} would change", place.display()),
    };
    for change in changes {
        let word = |name: &str| change[name].as_str().unwrap_or("-").to_owned();
        text += &format!("\n{:<8} {} {} -> {}", word("what"), word("id"), word("from"), word("to"));
    }
    text
}
