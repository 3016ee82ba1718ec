//! Removal of many entries at once.

use cachekit_plugin::{Enumerates, Kind};

use crate::case::{Case, Failure, case, ensure};
use crate::sample::echo;
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(Clear, clear_removes_what_begins_with_the_prefix_and_counts_it, [Clear], 60),
    case!(Clear, a_prefix_is_cleared_literally, [Clear], 60),
    case!(Clear, clearing_nothing_counts_nothing, [Clear]),
    case!(Clear, clearing_without_a_prefix_empties_the_store, [Clear], 60),
];

/// Clears under `prefix`; `None` if the store cannot tell keys apart and rightly says so.
fn clear(s: &Subject, prefix: &[u8]) -> Result<Option<u64>, Failure> {
    match s.backend().try_clear(prefix)? {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == Kind::Unsupported && s.limits().enumerates != Enumerates::Keys => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write(s: &Subject, names: &[&str]) -> Result<Vec<Vec<u8>>, Failure> {
    let keys: Vec<Vec<u8>> = names.iter().map(|name| s.key(name)).collect();
    for key in &keys {
        s.backend().set(key, echo(key))?;
    }
    Ok(keys)
}

/// Clears `prefix` and looks at each key. A store that refuses prefixes must have kept them all.
fn clear_and_look(s: &Subject, keys: &[Vec<u8>], prefix: &[u8]) -> Result<(), Failure> {
    let shown = prefix.escape_ascii().to_string();
    let cleared = clear(s, prefix)?;
    let under = |key: &Vec<u8>| cleared.is_some() && key.starts_with(prefix);
    if let Some(cleared) = cleared {
        let expected = keys.iter().filter(|key| under(key)).count() as u64;
        ensure!(cleared == expected, "clearing \"{shown}\" counts {cleared} where {expected} entries began with it");
    }
    for key in keys {
        let when = format!("of the test key \"{}\", after clearing \"{shown}\"", key.escape_ascii());
        s.backend().expect(key, (!under(key)).then(|| echo(key)).as_deref(), &when)?;
    }
    Ok(())
}

fn clear_removes_what_begins_with_the_prefix_and_counts_it(s: &Subject) -> Result<(), Failure> {
    let keys = write(s, &["a:1", "a:2", "a:3", "a", "b:1", "A:1", "aa:1", "", "xa:1"])?;
    clear_and_look(s, &keys, &s.key("a:"))?;
    // What was cleared can be written again.
    let keys = write(s, &["a:1"])?;
    s.backend().expect(&keys[0], Some(&echo(&keys[0])), "of a key that was cleared and written again")
}

fn a_prefix_is_cleared_literally(s: &Subject) -> Result<(), Failure> {
    let names = ["*x", "?x", "[ab]x", "\\*x", "%x", "_x", "ax", "bx", "abx"];
    for special in ["*", "?", "[ab]", "\\", "%", "_", "a*", ".*"] {
        let keys = write(s, &names)?;
        clear_and_look(s, &keys, &s.key(special))?;
    }
    Ok(())
}

fn clearing_nothing_counts_nothing(s: &Subject) -> Result<(), Failure> {
    let keys = write(s, &["kept"])?;
    if let Some(cleared) = clear(s, &s.key("nothing begins like this"))? {
        ensure!(cleared == 0, "clearing a prefix nobody used counts {cleared}");
    }
    s.backend().expect(&keys[0], Some(&echo(&keys[0])), "after clearing a prefix nobody used")
}

fn clearing_without_a_prefix_empties_the_store(s: &Subject) -> Result<(), Failure> {
    // Never on the store under test itself, which may be somebody's.
    let isolated = s.isolated()?;
    let keys: Vec<Vec<u8>> = (0..30).map(|number| s.key(&format!("k{number}"))).collect();
    for key in &keys {
        isolated.set(key, echo(key))?;
    }
    let kept = write(s, &["in-another-store"])?;
    let cleared = isolated.try_clear(b"")??;
    ensure!(cleared == 30, "clearing a store of 30 entries counts {cleared}");
    for key in &keys {
        isolated.expect(key, None, "after the store was cleared")?;
    }
    ensure!(isolated.try_clear(b"")?? == 0, "clearing an empty store counts something");
    s.backend().expect(&kept[0], Some(&echo(&kept[0])), "after another store was cleared")
}
