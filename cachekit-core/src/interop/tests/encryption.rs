//! Encryption: `encryption.json`, and what the keyring promises beside it.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::{bytes, comes_back_as, document, list, shown, sorted, text};
use crate::interop::{
    Binding, Class, Domain, Frame, InteropError, Keyring, KeyringError, MasterKey, StandardFormat, canonical_value,
    derive, fingerprint, hex, open_frame, read_value, typed_json, unhex,
};

const CURRENT: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OLD: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

fn master(digits: &str) -> MasterKey {
    MasterKey::from_hex(digits).unwrap()
}

fn ring(current: &str, previous: &[&str]) -> Keyring {
    Keyring::new(master(current), previous.iter().map(|key| master(key)).collect()).unwrap()
}

/// The ring of an entry, by the rules for raw keys, which the recording used there.
fn ring_of(entry: &Json) -> Result<Keyring, InteropError> {
    let key = |digits: &Json| MasterKey::from_bytes(&unhex(digits.as_str().unwrap()).unwrap());
    let previous: Result<Vec<_>, _> = entry["previous_master_keys"].as_array().unwrap().iter().map(key).collect();
    Ok(Keyring::new(key(&entry["master_key"])?, previous?)?)
}

#[test]
fn keys_are_derived_as_the_family_derives_them() {
    for entry in list(&document("encryption"), "kdf", 8) {
        let (master, tenant) = (unhex(text(&entry, "master_key")).unwrap(), text(&entry, "tenant_id"));
        let derived = |domain| derive(&master, domain, tenant).unwrap();
        assert_eq!(hex(&*derived(Domain::Encryption)), text(&entry, "encryption_key"));
        assert_eq!(hex(&*derived(Domain::Authentication)), text(&entry, "authentication_key"));
        assert_eq!(hex(&*derived(Domain::CacheKeys)), text(&entry, "cache_key_salt"));
        assert_eq!(hex(&fingerprint(&derived(Domain::Encryption))), text(&entry, "encryption_fingerprint"));
        let ring = ring(text(&entry, "master_key"), &[]);
        assert_eq!(ring.fingerprint(tenant).unwrap(), text(&entry, "encryption_fingerprint"));
    }
}

#[test]
fn interop_entries_are_opened_and_sealed_again_to_the_byte() {
    for entry in list(&document("encryption"), "interop", 10) {
        let binding = Binding::interop(text(&entry, "tenant_id"), text(&entry, "cache_key"));
        let ring = ring(text(&entry, "master_key"), &[]);
        let (sealed, plain) = (bytes(&entry, "ciphertext_hex"), bytes(&entry, "plaintext_hex"));
        assert_eq!(hex(&binding.associated_data().unwrap()), text(&entry, "aad_hex"));
        assert_eq!(ring.open(&binding, &sealed).unwrap(), plain);
        assert_eq!(sorted(&shown(&read_value(&plain).unwrap())), sorted(&comes_back_as(&entry["value"])));
        let nonce = *sealed.first_chunk().unwrap();
        assert_eq!(ring.seal_with(nonce, &binding, &plain), sealed);
        let value = typed_json::to_value(&entry["value"]).unwrap();
        assert_eq!(canonical_value(&value).unwrap(), plain, "{}", entry["name"]);
    }
}

#[test]
fn frames_are_opened_and_sealed_again_to_the_byte() {
    for entry in list(&document("encryption"), "frames", 21) {
        let name = text(&entry, "name");
        let key = format!("{}{}", entry["backend_key_prefix"].as_str().unwrap_or_default(), text(&entry, "cache_key"));
        let ring = ring(text(&entry, "master_key"), &[]);
        let stored = bytes(&entry, "frame_hex");
        let frame = Frame::parse(&stored).unwrap();
        let plain = open_frame(&frame, Some(&ring), &key).unwrap().unwrap();
        if entry["plaintext_hex"].is_string() {
            assert_eq!(hex(&plain), text(&entry, "plaintext_hex"), "{name}");
        }
        let binding = Binding {
            compressed: frame.header.compressed,
            original_type: Some("msgpack"),
            ..Binding::interop(text(&entry, "tenant_id"), &key)
        };
        assert_eq!(hex(&binding.associated_data().unwrap()), text(&entry, "aad_hex"), "{name}");
        assert_eq!(ring.seal_with(*frame.payload.first_chunk().unwrap(), &binding, &plain), *frame.payload, "{name}");

        let tenant = text(&entry, "tenant_id");
        let format =
            StandardFormat { integrity: frame.header.compressed, secure: Some((&ring, tenant)), max_payload: 1 << 20 };
        let value = format.read(&key, &stored).unwrap();
        assert_eq!(shown(&value), comes_back_as(&entry["value"]), "{name}");
        // Our own writing has the same header to the byte.
        let ours = format.write(&key, &value).unwrap();
        let header_len = stored.len() - frame.payload.len();
        assert_eq!(ours[..header_len], stored[..header_len], "{name}");
        assert_eq!(format.read(&key, &ours).unwrap(), value, "{name}");
    }
}

#[test]
fn rotation_opens_what_a_listed_key_has_sealed() {
    for entry in list(&document("encryption"), "rotation", 5) {
        let binding = Binding::interop(text(&entry, "tenant_id"), text(&entry, "cache_key"));
        let plain = ring_of(&entry).unwrap().open(&binding, &bytes(&entry, "ciphertext_hex")).unwrap();
        assert_eq!(shown(&read_value(&plain).unwrap()), comes_back_as(&entry["value"]), "{}", entry["name"]);
    }
}

#[test]
fn what_python_does_not_open_is_not_opened_and_named_alike() {
    for entry in list(&document("encryption"), "negative", 17) {
        let binding = Binding::interop(text(&entry, "tenant_id"), text(&entry, "cache_key"));
        let answer = ring_of(&entry).and_then(|ring| ring.open(&binding, &bytes(&entry, "ciphertext_hex")));
        let class = match text(&entry["error"], "class") {
            "DecryptionAuthenticationError" => Class::Tampered,
            _ => Class::Configuration,
        };
        assert_eq!(answer.unwrap_err().class(), class, "{}", entry["name"]);
    }
}

#[test]
fn frames_and_keyrings_agree_as_in_python() {
    for entry in list(&document("encryption"), "frame_cases", 19) {
        let ring = ring_of(&entry).unwrap().with_fail_closed(entry["fail_closed"] == true);
        let format = StandardFormat {
            integrity: entry["integrity"] == true,
            secure: Some((&ring, text(&entry, "reader_tenant"))),
            max_payload: 1 << 20,
        };
        let answer = format.read(text(&entry, "cache_key"), &bytes(&entry, "frame_hex"));
        super::judged(&entry, &answer);
        match answer {
            Ok(value) => assert_eq!(shown(&value), comes_back_as(&entry["value"]), "{}", entry["name"]),
            Err(error) => {
                let corrupt = text(&entry["error"], "class") == "SerializationError";
                let class = if corrupt { Class::Corrupt } else { Class::Tampered };
                assert_eq!(error.class(), class, "{}: {error}", entry["name"]);
            }
        }
    }
}

#[test]
fn every_byte_of_a_sealed_entry_counts() {
    let ring = ring(CURRENT, &[OLD]);
    let binding = Binding::interop("default", "users:op:1");
    let sealed = ring.seal(&binding, b"secret").unwrap();
    assert_eq!(sealed.len(), 12 + 6 + 16);
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        assert_eq!(ring.open(&binding, &damaged), Err(InteropError::Tampered), "byte {at}");
        assert_eq!(ring.open(&binding, &sealed[..at]), Err(InteropError::Tampered), "cut at {at}");
    }
    for moved in [Binding::interop("default", "users:op:2"), Binding::interop("other", "users:op:1")] {
        assert_eq!(ring.open(&moved, &sealed), Err(InteropError::Tampered));
    }
    assert_eq!(ring.open(&binding, &sealed).unwrap(), b"secret");
}

/// No two bindings share their associated data, however their parts are cut.
#[test]
fn bindings_are_told_apart_by_their_lengths() {
    let data = |tenant, key| Binding::interop(tenant, key).associated_data().unwrap();
    assert_ne!(data("a", "bc"), data("ab", "c"));
    let untyped = Binding::interop("t", "k");
    assert_eq!(Binding { original_type: Some(""), ..untyped }.associated_data(), untyped.associated_data());
    assert_eq!(Binding::interop("t", "").associated_data(), Err(KeyringError::CacheKey));
    assert_eq!(Binding::interop("", "k").associated_data(), Err(KeyringError::Tenant));
    assert_eq!(Binding::interop(&"t".repeat(1025), "k").associated_data(), Err(KeyringError::Tenant));
}

#[test]
fn nonces_do_not_repeat() {
    let ring = ring(CURRENT, &[]);
    let binding = Binding::interop("default", "k");
    let nonces: HashSet<Vec<u8>> = (0..10_000).map(|_| ring.seal(&binding, b"").unwrap()[..12].to_vec()).collect();
    assert_eq!(nonces.len(), 10_000);
}

#[test]
fn previous_keys_are_counted_and_a_spent_key_seals_no_more() {
    let binding = Binding::interop("default", "k");
    let sealed = ring(OLD, &[]).seal(&binding, b"v").unwrap();
    let rotated = ring(CURRENT, &[&"11".repeat(32), OLD]);
    assert_eq!(rotated.previous_key_hits(), [0, 0]);
    assert_eq!(rotated.open(&binding, &sealed).unwrap(), b"v");
    assert_eq!(rotated.previous_key_hits(), [0, 1]);
    let spent = ring(CURRENT, &[]).at_message(1 << 32);
    assert_eq!(spent.seal(&binding, b"v"), Err(KeyringError::Exhausted.into()));
    assert!(ring(CURRENT, &[]).at_message((1 << 32) - 1).seal(&binding, b"v").is_ok());
}

#[test]
fn derived_keys_are_bounded() {
    let ring = ring(CURRENT, &[]);
    for tenant in 0..1000 {
        ring.seal(&Binding::interop(&tenant.to_string(), "k"), b"v").unwrap();
    }
    assert_eq!(ring.derived_keys(), 256);
}

#[test]
fn keyrings_are_read_from_texts_and_refused_in_words() {
    let from = Keyring::from_hex;
    assert!(from(None, None).unwrap().is_none());
    assert!(from(Some("  "), Some(" , ")).unwrap().is_none());
    let two = format!(" {OLD} ,, {}", "11".repeat(48));
    assert_eq!(from(Some(CURRENT), Some(&two)).unwrap().unwrap().previous_key_hits(), [0, 0]);
    let upper = CURRENT.to_uppercase();
    for (current, previous, why) in [
        (Some("zz".repeat(32)), None, KeyringError::NotHex),
        (Some("ab".repeat(31)), None, KeyringError::TooShort { len: 31 }),
        (Some("abc".to_owned()), None, KeyringError::NotHex),
        (None, Some(OLD.to_owned()), KeyringError::PreviousAlone),
        (Some(CURRENT.to_owned()), Some(upper), KeyringError::CurrentIsPrevious),
        (Some(CURRENT.to_owned()), Some([OLD; 4].join(",")), KeyringError::TooMany { given: 4 }),
    ] {
        let error = from(current.as_deref(), previous.as_deref()).unwrap_err();
        assert_eq!(error, why);
    }
}

#[test]
fn keys_are_shown_nowhere() {
    let ring = ring(CURRENT, &[OLD]);
    let sealed = ring.seal(&Binding::interop("default", "k"), b"v").unwrap();
    let error = ring.open(&Binding::interop("default", "j"), &sealed).unwrap_err();
    for text in [format!("{ring:?}"), format!("{:?}", master(CURRENT)), format!("{error:?} {error}")] {
        for secret in ["000102", "ffeedd", "[0, 1, 2", "255, 238"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
