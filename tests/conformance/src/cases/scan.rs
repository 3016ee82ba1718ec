//! Enumeration of what is stored, by key or by opaque id.

use std::collections::{HashMap, HashSet};

use cachekit_plugin::{Bytes, Enumerates, Operation};

use crate::case::{Case, Failure, case, ensure};
use crate::sample::echo;
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(Scan, a_scan_lists_every_entry, [Scan], 120),
    case!(Scan, pages_hold_no_more_than_was_asked_for, [Scan], 120),
    case!(Scan, an_item_leads_to_its_value_until_it_is_gone, [Scan], 60),
    case!(Scan, deleted_entries_are_listed_no_more, [Scan], 60),
    case!(Scan, a_prefix_is_taken_literally, [Scan], 60),
    case!(Scan, a_made_up_cursor_does_no_harm, [Scan]),
];

/// Pages in a row that lead back to a known cursor and bring nothing new, before a scan counts as endless.
const MAX_IDLE_PAGES: usize = 100;

fn lists_keys(s: &Subject) -> bool {
    s.limits().enumerates == Enumerates::Keys
}

/// Every item under `prefix`, with the number of items of the largest page.
fn scan(s: &Subject, prefix: &[u8], max: usize) -> Result<(HashSet<Bytes>, usize), Failure> {
    let (mut items, mut cursors, mut largest) = (HashSet::new(), HashSet::new(), 0);
    let (mut cursor, mut idle) = (None::<Bytes>, 0);
    loop {
        let page = s.backend().page(prefix, cursor.as_deref(), max)?;
        largest = largest.max(page.items.len());
        let known = items.len();
        items.extend(page.items);
        let Some(next) = page.next else { return Ok((items, largest)) };
        // A cursor may come again, and a page may be empty; both for ever is a scan without an end.
        idle = if !cursors.insert(next.clone()) && items.len() == known { idle + 1 } else { 0 };
        ensure!(idle < MAX_IDLE_PAGES, "a scan does not end: {idle} pages brought nothing new and known cursors");
        cursor = Some(next);
    }
}

/// The items of this case with the values behind them. A store that lists ids also lists what others have stored.
fn own_items(s: &Subject, prefix: &[u8], max: usize) -> Result<HashMap<Bytes, Bytes>, Failure> {
    let own = echo(&s.prefix());
    let mut found = HashMap::new();
    for item in scan(s, prefix, max)?.0 {
        if lists_keys(s) {
            ensure!(item.starts_with(prefix), "a scan lists a key that does not begin with its prefix");
        }
        if let Some(value) = s.backend().read(&item)?
            && value.starts_with(&own)
        {
            found.insert(item, value);
        }
    }
    Ok(found)
}

fn write(s: &Subject, names: impl IntoIterator<Item = String>) -> Result<Vec<Vec<u8>>, Failure> {
    let keys: Vec<Vec<u8>> = names.into_iter().map(|name| s.key(&name)).collect();
    for key in &keys {
        s.backend().set(key, echo(key))?;
    }
    Ok(keys)
}

/// Refuted unless `items` are `keys`, each once and with its own value.
fn expect_keys(s: &Subject, items: &HashMap<Bytes, Bytes>, keys: &[Vec<u8>], when: &str) -> Result<(), Failure> {
    let values: HashSet<&Bytes> = items.values().collect();
    let missing = keys.iter().filter(|key| !values.contains(&echo(key))).count();
    ensure!(missing == 0, "{when}: a scan misses {missing} of {} entries", keys.len());
    ensure!(items.len() == keys.len(), "{when}: a scan lists {} items for {} entries", items.len(), keys.len());
    if lists_keys(s) {
        let right = items.iter().all(|(key, value)| echo(key) == *value);
        ensure!(right, "{when}: reading a listed key returns the value of another");
    }
    Ok(())
}

fn a_scan_lists_every_entry(s: &Subject) -> Result<(), Failure> {
    let keys = write(s, (0..500).map(|number| format!("k{number}")))?;
    let items = own_items(s, &s.prefix(), 100)?;
    expect_keys(s, &items, &keys, "of 500 entries")
}

fn pages_hold_no_more_than_was_asked_for(s: &Subject) -> Result<(), Failure> {
    let keys = write(s, (0..40).map(|number| format!("k{number}")))?;
    for max in [1, 7, 39, 40, 41, 1000] {
        let (items, largest) = scan(s, &s.prefix(), max)?;
        ensure!(largest <= max, "a page holds {largest} items where at most {max} were asked for");
        ensure!(items.len() >= keys.len(), "with pages of {max}, a scan misses entries");
        if lists_keys(s) {
            let listed = keys.iter().all(|key| items.contains(key.as_slice()));
            ensure!(listed && items.len() == keys.len(), "with pages of {max}, a scan lists other keys");
        }
    }
    Ok(())
}

fn an_item_leads_to_its_value_until_it_is_gone(s: &Subject) -> Result<(), Failure> {
    let keys = write(s, (0..5).map(|number| format!("k{number}")))?;
    let items = own_items(s, &s.prefix(), 10)?;
    expect_keys(s, &items, &keys, "of 5 entries")?;
    for key in &keys {
        ensure!(s.backend().delete(key)?, "delete is false for a key that was listed");
    }
    for item in items.keys() {
        ensure!(s.backend().read(item)?.is_none(), "an item still leads to a value after its entry was deleted");
    }
    for made_up in [&b"made up"[..], b"", b"../../etc/passwd", b"\0", &[0xff; 300]] {
        let cx = s.backend().cx();
        if let Ok(found) = s.backend().finish(Operation::Read, s.backend().scan()?.read(made_up, &cx))? {
            ensure!(found.is_none(), "an id that was made up leads to a value");
        }
    }
    Ok(())
}

fn deleted_entries_are_listed_no_more(s: &Subject) -> Result<(), Failure> {
    let mut keys = write(s, (0..20).map(|number| format!("k{number}")))?;
    for key in keys.split_off(10) {
        s.backend().delete(&key)?;
        // An entry that was deleted and written again is one entry, not two.
        s.backend().set(&keys[0], echo(&keys[0]))?;
    }
    let (listed, _) = scan(s, &s.prefix(), 7)?;
    if lists_keys(s) {
        ensure!(listed.len() == 10, "a scan lists {} keys where 10 of 20 were deleted", listed.len());
    }
    expect_keys(s, &own_items(s, &s.prefix(), 7)?, &keys, "of 20 entries, 10 deleted")
}

fn a_prefix_is_taken_literally(s: &Subject) -> Result<(), Failure> {
    let specials = ["*", "?", "[ab]", "[^a]", "\\*", "%", "_", "{a,b}", "a*", ".*", "^"];
    let plain = ["a", "b", "ab", "aa"];
    let keys = write(s, specials.iter().chain(&plain).map(|name| format!("{name}x")))?;
    // A store that lists ids ignores the prefix: there a few of them say as much as all.
    let tried = if lists_keys(s) { specials.len() + plain.len() } else { 2 };
    for special in specials.iter().chain(&plain).take(tried) {
        let prefix = s.key(special);
        let items = own_items(s, &prefix, 5)?;
        let under = |key: &&Vec<u8>| !lists_keys(s) || key.starts_with(&prefix);
        let expected: Vec<Vec<u8>> = keys.iter().filter(under).cloned().collect();
        expect_keys(s, &items, &expected, &format!("under the prefix \"{special}\""))?;
    }
    Ok(())
}

fn a_made_up_cursor_does_no_harm(s: &Subject) -> Result<(), Failure> {
    let keys = write(s, (0..5).map(|number| format!("k{number}")))?;
    let cursors: [&[u8]; 9] = [
        b"",
        b"made up",
        b"0",
        b"-1",
        b"18446744073709551616",
        b"\0\0\0\0\0\0\0\0",
        b"../../..",
        b"\r\nFLUSHALL\r\n",
        &[0xff; 300],
    ];
    for cursor in cursors {
        // A page of anything, or an error that says what is wrong.
        if let Ok(page) = s.backend().try_page(&s.prefix(), Some(cursor), 3)? {
            ensure!(page.items.len() <= 3, "a made-up cursor leads to a page that is too large");
        }
    }
    expect_keys(s, &own_items(s, &s.prefix(), 3)?, &keys, "after cursors that were made up")
}
