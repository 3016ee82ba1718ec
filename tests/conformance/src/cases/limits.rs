//! Sizes, alphabets and hostile keys, taken from what the instance says of itself.

use cachekit_plugin::{Bytes, KeyBytes, Limits, Retry};

use crate::case::{Case, Failure, case, ensure};
use crate::sample::{describe, echo, noise};
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(Limits, limits_make_sense),
    case!(Limits, values_of_every_size_read_back, [], 120),
    case!(Limits, a_value_beyond_the_limit_is_refused_or_kept_whole, [], 60),
    case!(Limits, keys_of_every_length_are_taken),
    case!(Limits, a_key_beyond_the_limit_is_refused_or_kept_apart),
    case!(Limits, every_allowed_byte_may_stand_in_a_key, [], 60),
    case!(Limits, hostile_keys_touch_nothing_else),
    case!(Limits, look_alike_keys_are_kept_apart),
];

/// The kit tries no larger values than this, whatever a store allows.
const LARGEST_TRIED: u64 = 8 << 20;

/// Nor longer keys.
const LONGEST_TRIED: usize = 64 << 10;

fn limits_make_sense(s: &Subject) -> Result<(), Failure> {
    let Limits { max_key, max_value, ttl_step_ms, ttl_max_ms, .. } = s.limits();
    // The engine replaces a key that does not fit by `ck:`, a namespace, `:#` and 64 hex digits: that has to fit.
    ensure!(max_key >= 70, "max_key is {max_key}, but even a hashed key of the engine needs 70 bytes");
    ensure!(max_value >= 1, "max_value is 0: the store takes no values");
    ensure!(ttl_step_ms >= 1, "ttl_step_ms is 0");
    ensure!(ttl_max_ms >= ttl_step_ms, "ttl_max_ms is {ttl_max_ms}, less than one step of {ttl_step_ms} ms");
    Ok(())
}

fn values_of_every_size_read_back(s: &Subject) -> Result<(), Failure> {
    let max = s.limits().max_value.min(LARGEST_TRIED);
    let sizes = [0, 1, 63, 64, 65, 255, 256, 257, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1 << 20, max - 1, max];
    for size in sizes.into_iter().filter(|size| *size <= max) {
        let key = s.key(&format!("size{size}"));
        let value = noise(size, size as usize);
        s.backend().set(&key, value.clone())?;
        s.backend().expect(&key, Some(&value), &format!("of a value of {size} bytes"))?;
        s.backend().delete(&key)?;
    }
    Ok(())
}

fn a_value_beyond_the_limit_is_refused_or_kept_whole(s: &Subject) -> Result<(), Failure> {
    let max = s.limits().max_value;
    if max > LARGEST_TRIED {
        return Err(Failure::NotAsked(format!("max_value is {max} bytes, more than the kit tries")));
    }
    let (key, value) = (s.key("k"), noise(1, max as usize + 1));
    s.backend().set(&key, &b"old"[..])?;
    let refused = s.backend().try_set(&key, value.clone())?;
    let found = s.backend().get(&key)?;
    match refused {
        Ok(()) => ensure!(
            found.as_ref() == Some(&value),
            "a value of max_value + 1 bytes was taken, but read back as {}",
            describe(found.as_deref())
        ),
        Err(error) => {
            ensure!(error.retry() == Retry::No, "a value that is too large is refused with the advice to try again");
            // A store may drop the old value rather than keep one that its caller meant to replace.
            ensure!(
                matches!(found.as_deref(), None | Some(b"old")),
                "a value was refused, yet the key now holds {}",
                describe(found.as_deref())
            );
        }
    }
    s.backend().set(&key, echo(&key))?;
    s.backend().expect(&key, Some(&echo(&key)), "after a value that was too large")
}

/// A key of this case of exactly `len` bytes that differs from its sibling in the last one.
fn key_of_length(s: &Subject, len: usize, last: u8) -> Vec<u8> {
    let mut name = vec![b'k'; len.saturating_sub(s.prefix().len() + 1)];
    name.push(last);
    s.key_of(&name)
}

fn keys_of_every_length_are_taken(s: &Subject) -> Result<(), Failure> {
    let longest = (s.limits().max_key as usize).min(LONGEST_TRIED);
    let lengths = [32, 64, 127, 128, 200, 249, 250, 251, 255, 256, 1024, 4096, longest];
    for len in lengths.into_iter().filter(|len| *len <= longest) {
        let siblings = [key_of_length(s, len, b'a'), key_of_length(s, len, b'b')];
        for key in &siblings {
            s.backend().set(key, echo(key))?;
        }
        for key in &siblings {
            s.backend().expect(key, Some(&echo(key)), &format!("of one of two keys of {len} bytes"))?;
            ensure!(s.backend().exists(key)?, "exists is false for a key of {len} bytes that was written");
        }
    }
    Ok(())
}

fn a_key_beyond_the_limit_is_refused_or_kept_apart(s: &Subject) -> Result<(), Failure> {
    let longest = s.limits().max_key as usize;
    if longest > LONGEST_TRIED {
        return Err(Failure::NotAsked(format!("max_key is {longest} bytes, more than the kit tries")));
    }
    let fits = key_of_length(s, longest, b'a');
    s.backend().set(&fits, echo(&fits))?;
    for beyond in [1, 2, 300] {
        let mut key = fits.clone();
        key.resize(longest + beyond, b'a');
        refused_or_faithful(s, &key)?;
        s.backend().expect(&fits, Some(&echo(&fits)), "after a longer key that begins with it was written")?;
    }
    Ok(())
}

/// A key that limits do not allow never comes from the engine. If it comes all the same, it must not become another.
fn refused_or_faithful(s: &Subject, key: &[u8]) -> Result<(), Failure> {
    match s.backend().try_set(key, echo(key))? {
        Ok(()) => s.backend().expect(key, Some(&echo(key)), "of a key beyond the limits that was taken"),
        Err(error) => {
            ensure!(error.retry() == Retry::No, "a key beyond the limits is refused with the advice to try again");
            if let Ok(found) = s.backend().try_get(key)? {
                ensure!(found.is_none(), "a key that was refused reads as {}", describe(found.as_deref()));
            }
            Ok(())
        }
    }
}

fn every_allowed_byte_may_stand_in_a_key(s: &Subject) -> Result<(), Failure> {
    let all = 0..=255_u8;
    let keys: Vec<Vec<u8>> = all
        // In the middle of two keys that differ only behind it, at the end, and at the start of the case's part.
        .flat_map(|byte| [vec![b'-', byte, b'a'], vec![b'-', byte, b'b'], vec![b'=', byte], vec![byte, b'=']])
        .map(|name| s.key_of(&name))
        .filter(|key| s.limits().takes_key(key))
        .collect();
    write_then_read_all(s, &keys)
}

/// Writes every key before any is read, so that two keys that are one to the store show.
fn write_then_read_all(s: &Subject, keys: &[Vec<u8>]) -> Result<(), Failure> {
    for key in keys {
        s.backend().set(key, echo(key))?;
    }
    for key in keys {
        let shown = key.escape_ascii();
        s.backend().expect(key, Some(&echo(key)), &format!("of the test key \"{shown}\""))?;
    }
    Ok(())
}

fn hostile_keys_touch_nothing_else(s: &Subject) -> Result<(), Failure> {
    let canary = s.key("canary");
    let named = |text: &str| text.replace("CANARY", &String::from_utf8_lossy(&canary));
    s.backend().set(&canary, echo(&canary))?;
    let hostile = [
        "x\r\ndelete CANARY\r\n",
        "x\r\nset CANARY 0 0 3\r\nbad\r\n",
        "x\r\n*2\r\n$3\r\nDEL\r\n",
        "x\nDEL CANARY\n",
        "x 0 0 3",
        "x CANARY",
        "x\0CANARY",
        "*",
        "?",
        "[a-z]*",
        "{}",
        "{tag}x",
        "../canary",
        "../../../../../../tmp/canary",
        "..",
        ".",
        "/",
        "//",
        "/etc/passwd",
        "%2e%2e%2f",
        "a/../canary",
        "\\..\\canary",
        "\\\\?\\canary",
        "a?b=c&d=e#f",
        "'; DROP TABLE cache; --",
        "$(id)`id`",
        "\u{feff}\u{202e}x",
        "x\u{7f}\u{1b}[2J",
        ":lock",
    ];
    let keys: Vec<Vec<u8>> = hostile.iter().map(|name| s.key(&named(name))).collect();
    let (allowed, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| s.limits().takes_key(key));
    write_then_read_all(s, &allowed)?;
    s.backend().expect(&canary, Some(&echo(&canary)), "of the canary after hostile keys were written")?;
    for key in &others {
        refused_or_faithful(s, key)?;
        s.backend().expect(&canary, Some(&echo(&canary)), "of the canary after a key outside the alphabet")?;
    }
    for key in &allowed {
        ensure!(s.backend().delete(key)?, "delete is false for the test key \"{}\"", key.escape_ascii());
    }
    s.backend().expect(&canary, Some(&echo(&canary)), "of the canary after hostile keys were deleted")
}

fn look_alike_keys_are_kept_apart(s: &Subject) -> Result<(), Failure> {
    let look_alikes: [&[u8]; 34] = [
        b"key",
        b"KEY",
        b"Key",
        b"key ",
        b" key",
        b"key\0",
        b"key\0x",
        b"key\0y",
        b"key\n",
        b"key\r\n",
        b"key.",
        b"key/",
        b"/key",
        b"a/b",
        b"a//b",
        b"a/./b",
        b"a\\b",
        b"a%2Fb",
        b"a%2fb",
        b"a%252fb",
        b"a+b",
        b"a b",
        b"a%20b",
        b"a_b",
        b"a-b",
        b"a:b",
        b"a::b",
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
        b"cafe",
        b"caf\xe9",
        b"caf?",
        b"1",
        b"01",
    ];
    let keys: Vec<Vec<u8>> = look_alikes.iter().map(|name| s.key_of(name)).collect();
    let keys: Vec<Vec<u8>> = keys.into_iter().filter(|key| s.limits().takes_key(key)).collect();
    ensure!(
        s.limits().key_bytes == KeyBytes::Printable || keys.len() == look_alikes.len(),
        "limits say that any byte may stand in a key, but do not take every test key"
    );
    write_then_read_all(s, &keys)?;
    for (number, key) in keys.iter().enumerate() {
        ensure!(s.backend().delete(key)?, "another delete removed the test key \"{}\"", key.escape_ascii());
        for later in &keys[number + 1..] {
            let found: Option<Bytes> = s.backend().get(later)?;
            ensure!(found.is_some(), "deleting \"{}\" removed \"{}\"", key.escape_ascii(), later.escape_ascii());
        }
    }
    Ok(())
}
