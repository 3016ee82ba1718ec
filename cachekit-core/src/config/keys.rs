//! Master keys and the tenant: what encrypted entries of the family are sealed with.
//!
//! A configured key is a source and no switch: nothing is encrypted because a key exists. The rules are those of the
//! family: hex, at least 32 bytes, at most three previous keys, and the current one is not among them, because that is what
//! a retired key looks like that was put back into use by mistake.

use crate::interop::{MASTER_KEY_BYTES, MAX_PREVIOUS_KEYS, MasterKey};

/// How to get a key.
const GENERATE: &str = "generate one with: openssl rand -hex 32";

/// Reads a key from hex digits. The error tells lengths, positions and how to get a key that is right, and nothing of the key.
pub(super) fn master(text: &str) -> Result<MasterKey, String> {
    let (text, digits) = (text.trim(), MASTER_KEY_BYTES * 2);
    let length = text.chars().count();
    if let Some(at) = text.chars().position(|c| !c.is_ascii_hexdigit()) {
        return Err(format!(
            "character {} of {length} is no hex digit; a master key is at least {digits} of 0-9 and a-f; {GENERATE}",
            at + 1
        ));
    }
    if length < digits {
        return Err(format!("{length} characters, {digits} needed ({MASTER_KEY_BYTES} bytes in hex); {GENERATE}"));
    }
    if !length.is_multiple_of(2) {
        return Err(format!("{length} characters, and hex digits come in pairs; {GENERATE}"));
    }
    MasterKey::from_hex(text).map_err(|error| error.to_string())
}

/// Reads previous keys from a list with commas; blank items are left out, as the family does.
pub(super) fn previous_from_list(text: &str) -> Result<Vec<MasterKey>, String> {
    previous(text.split(',').map(str::trim).filter(|item| !item.is_empty()))
}

/// Reads previous keys one by one.
pub(super) fn previous<'a>(items: impl Iterator<Item = &'a str>) -> Result<Vec<MasterKey>, String> {
    let mut keys = Vec::new();
    for (at, item) in items.enumerate() {
        if at >= MAX_PREVIOUS_KEYS {
            return Err(format!(
                "more than {MAX_PREVIOUS_KEYS} previous keys; drop those that no entry was written with any more"
            ));
        }
        keys.push(master(item).map_err(|reason| format!("key {}: {reason}", at + 1))?);
    }
    Ok(keys)
}

/// The lower-case form with hyphens of a UUID, from any form that Python's `uuid.UUID` takes.
pub(super) fn canonical_uuid(text: &str) -> Result<String, String> {
    let bare = text.replace("urn:", "").replace("uuid:", "");
    let digits: String = bare.trim_matches(['{', '}']).chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("{text:?} is no UUID such as 123e4567-e89b-12d3-a456-426614174000"));
    }
    let digits = digits.to_ascii_lowercase();
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_be_used_are_refused_with_a_length_or_a_position_and_nothing_of_the_key() {
        assert_eq!(master(&"Ab".repeat(32)).unwrap(), MasterKey::from_bytes(&[0xab; 32]).unwrap());
        assert_eq!(format!("{:?}", master(&"ab".repeat(40)).unwrap()), "MasterKey(40 bytes)");
        // The third is what the family's guide shows as a valid key: it has 62 digits.
        for (wrong, expected) in [
            ("my-secret-key", "character 1 of 13 is no hex digit"),
            ("abcd1234", "8 characters, 64 needed"),
            ("a1b2c3d4e5f6789012345678901234567890abcdef12345678901234567890", "62 characters, 64 needed"),
            ("", "0 characters"),
            (&"a".repeat(65), "in pairs"),
            (&format!("{}żż", "ab".repeat(32)), "character 65 of 66"),
        ] {
            let error = master(wrong).unwrap_err();
            assert!(error.contains(expected) && error.contains("openssl rand -hex 32"), "{error}");
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn at_most_three_previous_keys_and_each_is_checked() {
        let key = "ab".repeat(32);
        let list = |items: &[&str]| previous_from_list(&items.join(","));
        assert_eq!(list(&[&key, " ", &key, ""]).unwrap().len(), 2);
        assert!(list(&[]).unwrap().is_empty());
        assert!(list(&[key.as_str(); 4]).unwrap_err().contains("more than 3"));
        let error = list(&[&key, &"ab".repeat(31)]).unwrap_err();
        assert!(error.contains("key 2") && error.contains("62 characters"), "{error}");
    }

    #[test]
    fn uuids_are_made_canonical() {
        let canonical = "123e4567-e89b-12d3-a456-426614174000";
        for form in [canonical, "123E4567E89B12D3A456426614174000", "{123e4567-e89b-12d3-a456-426614174000}"] {
            assert_eq!(canonical_uuid(form).unwrap(), canonical);
        }
        assert_eq!(canonical_uuid(&format!("urn:uuid:{canonical}")).unwrap(), canonical);
        for wrong in ["nope", "", "123e4567", "123e4567-e89b-12d3-a456-42661417400g"] {
            assert!(canonical_uuid(wrong).is_err(), "{wrong}");
        }
    }
}
