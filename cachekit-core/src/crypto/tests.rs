//! The cipher behind its seam, the derivations to the byte, and native entries that were altered, moved or kept too long.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::aead::{AeadKey, NONCE_LEN, Provider, TAG_LEN};
use super::derive::{Domain, Use, derive, derive_native};
use super::*;
use crate::codec::{Codec, Compression, HEADER_LEN, Meta, NewEntry, Refusal, Tag, Times};
use crate::key::Namespace;

const PROVIDERS: [Provider; 2] = [Provider::AwsLc, Provider::RustCrypto];
const NOW: u64 = 1_700_000_000_000;
const WIRE: &[u8] = b"ck:users:42";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// Bytes without a pattern, the same in each run.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    (0..len.div_ceil(8) as u64)
        .flat_map(|at| twox_hash::XxHash3_64::oneshot_with_seed(seed, &at.to_le_bytes()).to_le_bytes())
        .take(len)
        .collect()
}

fn ring(current: u8, previous: &[u8]) -> Keyring {
    let key = |byte: u8| MasterKey::from_bytes(&[byte; 32]).unwrap();
    Keyring::new(key(current), previous.iter().map(|byte| key(*byte)).collect()).unwrap()
}

fn codec(ring: Keyring, tenant: &str) -> Codec {
    let sealer = NativeSealer::new(Arc::new(ring), tenant).unwrap();
    Codec { sealer: Some(Arc::new(sealer)), ..Codec::default() }
}

fn entry(wire_key: &[u8]) -> NewEntry<'_> {
    let times = Times { created_ms: NOW, expires_ms: NOW + 60_000, ..Times::default() };
    NewEntry { wire_key, meta: Meta { times, ..Meta::default() }, tags: &[] }
}

/// Whoever computes it, these are the answers: test cases 13 to 16 of the GCM specification.
#[test]
fn each_provider_gives_the_answers_of_the_specification() {
    let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    let text = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657\
                ba637b391aafd255";
    let sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abc\
                  c9f662898015ad";
    let zero = "00".repeat(32);
    for (key, nonce, aad, text, sealed, tag) in [
        (&*zero, "000000000000000000000000", "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
        (
            &*zero,
            "000000000000000000000000",
            "",
            "00000000000000000000000000000000",
            "cea7403d4d606b6e074ec5d3baf39d18",
            "d0d1c8a799996bf0265b98b5d48ab919",
        ),
        (key, "cafebabefacedbaddecaf888", "", text, sealed, "b094dac5d93471bdec1a502270e3cc6c"),
        (
            key,
            "cafebabefacedbaddecaf888",
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            &text[..120],
            &sealed[..120],
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ] {
        let nonce = unhex(nonce).try_into().unwrap();
        for provider in PROVIDERS {
            let cipher = AeadKey::with(provider, &unhex(key).try_into().unwrap());
            let mut bytes = unhex(text);
            assert_eq!(hex(&cipher.seal(&nonce, &unhex(aad), &mut bytes).unwrap()), tag, "{provider:?}");
            assert_eq!(hex(&bytes), sealed, "{provider:?}");
            cipher.open(&nonce, &unhex(aad), &mut bytes, &unhex(tag).try_into().unwrap()).unwrap();
            assert_eq!(hex(&bytes), text, "{provider:?}");
        }
    }
}

#[test]
fn each_provider_opens_what_the_other_sealed_at_every_size() {
    // All sizes around the blocks and strides of the ciphers, then sampled up to 64 KiB.
    let sizes =
        (0..=600).chain((0..13).flat_map(|power| [(1 << (power + 4)) - 1, 1 << (power + 4), (1 << (power + 4)) + 1]));
    let sampled = (0..60).map(|step| 601 + step * 1_082);
    for size in sizes.chain(sampled) {
        let (key, text, aad) = (noise(1, 32), noise(2, size), noise(3, size % 131));
        let key: [u8; 32] = key.try_into().unwrap();
        let nonce: [u8; NONCE_LEN] = noise(size as u64, NONCE_LEN).try_into().unwrap();
        let [one, other] = PROVIDERS.map(|provider| AeadKey::with(provider, &key));
        let sealed = |key: &AeadKey| {
            let mut bytes = text.clone();
            let tag = key.seal(&nonce, &aad, &mut bytes).unwrap();
            (bytes, tag)
        };
        let (mut bytes, tag) = sealed(&one);
        assert_eq!((&bytes, tag), (&sealed(&other).0, sealed(&other).1), "{size}");
        let mut copy = bytes.clone();
        other.open(&nonce, &aad, &mut bytes, &tag).unwrap();
        one.open(&nonce, &aad, &mut copy, &tag).unwrap();
        assert!(bytes == text && copy == text, "{size}");
        // And neither opens anything else.
        for key in [&one, &other] {
            let mut altered = sealed(key).0;
            let mut wrong = tag;
            match altered.get_mut(size / 2) {
                Some(byte) => *byte ^= 1,
                None => wrong[0] ^= 1,
            }
            assert!(key.open(&nonce, &aad, &mut altered, &wrong).is_err(), "{size}");
        }
    }
    assert_eq!(TAG_LEN, 16);
}

#[test]
fn the_provider_in_use_is_the_fast_one_where_it_was_built() {
    let expected = if cfg!(feature = "aws-lc-rs") { "aws-lc-rs" } else { "aes-gcm" };
    assert_eq!(Provider::in_use().name(), expected);
}

/// Pinned, because every stored entry depends on it. Computed apart, with the hmac of another language.
#[test]
fn native_bytes_are_derived_as_documented() {
    let master: Vec<u8> = (0..32).collect();
    for (purpose, tenant, expected) in [
        (Use::Entries, "default", ENTRIES_DEFAULT),
        (Use::Entries, "acme", ENTRIES_ACME),
        (Use::Names, "default", NAMES_DEFAULT),
        (Use::KeyName, "", KEY_NAME),
    ] {
        assert_eq!(hex(&*derive_native(&master, purpose, tenant).unwrap()), expected, "{purpose:?} {tenant}");
    }
    let mut all: HashSet<String> = [ENTRIES_DEFAULT, ENTRIES_ACME, NAMES_DEFAULT, KEY_NAME].map(String::from).into();
    for domain in [Domain::Encryption, Domain::Authentication, Domain::CacheKeys] {
        all.insert(hex(&*derive(&master, domain, "default").unwrap()));
    }
    assert_eq!(all.len(), 7, "two uses share a key");
    for tenant in ["", &"t".repeat(1025)] {
        assert_eq!(derive_native(&master, Use::Entries, tenant).unwrap_err(), KeyringError::Tenant);
        assert!(NativeSealer::new(Arc::new(ring(1, &[])), tenant).is_err());
    }
}

const ENTRIES_DEFAULT: &str = "727187c0b0c95e2b93c40d3ca3bf8cf762f1dd45d15271689d98463b97c0ee6e";
const ENTRIES_ACME: &str = "a4f9cce03c310c2dcb7fe4047a7b601f5564ad794e1aa49c1ea22782714f825c";
const NAMES_DEFAULT: &str = "8b3c61c1e6ca206186c8ebefd99110a9d6ff48bc465ea3fc84bcd8a6537ef939";
const KEY_NAME: &str = "496f5b04459369c9bbbacceb4c085c53522f03a9363a79922e2120eb7caf2cdc";

#[test]
fn every_byte_of_a_native_entry_is_under_the_seal() {
    let codec = codec(ring(1, &[2]), "default");
    let tagged = NewEntry { tags: &[Tag { name: b"team", epoch: 9 }], ..entry(WIRE) };
    for stored in [codec.encode(&tagged, &"v".repeat(3000)).unwrap(), codec.encode_bytes(&tagged, b"short").unwrap()] {
        assert!(codec.open(&stored, WIRE, NOW).is_ok());
        for position in 0..stored.len() {
            for flip in [0x01, 0x02, 0x40, 0x80, 0xff] {
                let mut altered = stored.to_vec();
                altered[position] ^= flip;
                // Also in the name of the key: the rest is authentic under a key of the ring.
                assert_eq!(codec.open(&altered.into(), WIRE, NOW).unwrap_err(), Refusal::Tampered, "byte {position}");
            }
            assert_eq!(codec.open(&stored.slice(..position), WIRE, NOW).unwrap_err(), Refusal::Tampered);
        }
        let extended = Bytes::from([&stored[..], &[0]].concat());
        assert_eq!(codec.open(&extended, WIRE, NOW).unwrap_err(), Refusal::Tampered);
    }
}

#[test]
fn an_entry_opens_under_its_key_its_namespace_and_its_tenant_alone() {
    let acme = codec(ring(1, &[]), "acme");
    let stored = acme.encode(&entry(WIRE), &1).unwrap();
    assert_eq!(acme.open(&stored, WIRE, NOW).unwrap().decode::<u8>(), Ok(1));
    for elsewhere in [&b"ck:users:43"[..], b"ck:orders:42", b"ck:users:4", b"ck:users:422"] {
        assert_eq!(acme.open(&stored, elsewhere, NOW).unwrap_err(), Refusal::Tampered);
        // Nor if the key inside is made to agree.
        let mut moved = [&stored[..HEADER_LEN], elsewhere, &stored[HEADER_LEN + WIRE.len()..]].concat();
        moved[80..84].copy_from_slice(&(elsewhere.len() as u32).to_le_bytes());
        assert_eq!(acme.open(&moved.into(), elsewhere, NOW).unwrap_err(), Refusal::Tampered);
    }
    for tenant in ["default", "acm", "acme "] {
        assert_eq!(codec(ring(1, &[]), tenant).open(&stored, WIRE, NOW).unwrap_err(), Refusal::Tampered, "{tenant}");
    }
}

#[test]
fn a_key_that_is_not_there_is_a_matter_of_configuration() {
    let stored = codec(ring(1, &[]), "acme").encode(&entry(WIRE), &1).unwrap();
    assert_eq!(codec(ring(2, &[3, 4, 5]), "acme").open(&stored, WIRE, NOW).unwrap_err(), Refusal::Sealed);
    assert!(codec(ring(2, &[3, 4, 1]), "acme").open(&stored, WIRE, NOW).is_ok());
    // Whoever alters it besides is refused as loudly.
    let mut altered = stored.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(codec(ring(2, &[]), "acme").open(&altered.into(), WIRE, NOW).unwrap_err(), Refusal::Sealed);
    assert!(Refusal::Sealed.is_alarm() && Refusal::Plaintext.is_alarm() && Refusal::Tampered.is_alarm());
    assert!(!Refusal::Corrupt.is_alarm() && !Refusal::Expired.is_alarm());
}

#[test]
fn a_rotation_reads_old_entries_seals_new_ones_and_tells_when_the_old_key_can_go() {
    let old = codec(ring(1, &[]), "acme").encode(&entry(WIRE), &1).unwrap();
    let older = codec(ring(9, &[]), "acme").encode(&entry(WIRE), &0).unwrap();
    let keyring = Arc::new(ring(2, &[1, 9]));
    let sealer = Arc::new(NativeSealer::new(Arc::clone(&keyring), "acme").unwrap());
    let rotated = Codec { sealer: Some(sealer), ..Codec::default() };
    for _ in 0..3 {
        assert!(rotated.open(&old, WIRE, NOW).is_ok());
    }
    assert!(rotated.open(&older, WIRE, NOW).is_ok());
    assert_eq!(keyring.previous_key_hits(), [3, 1]);
    let new = rotated.encode(&entry(WIRE), &2).unwrap();
    assert!(rotated.open(&new, WIRE, NOW).is_ok());
    assert_eq!(keyring.previous_key_hits(), [3, 1]);
    // A touch seals anew, with the new key.
    let touched = rotated.retime(&old, WIRE, NOW, |times| times).unwrap();
    let only_new = codec(ring(2, &[]), "acme");
    assert!(only_new.open(&new, WIRE, NOW).is_ok() && only_new.open(&touched, WIRE, NOW).is_ok());
    assert_eq!(only_new.open(&old, WIRE, NOW).unwrap_err(), Refusal::Sealed);
}

/// What is not promised, so that nobody believes otherwise: a store that keeps an older entry of the same key can give it
/// back until that entry's own end.
#[test]
fn an_older_entry_of_the_same_key_is_authentic_until_its_own_end() {
    let codec = codec(ring(1, &[]), "acme");
    let old = codec.encode(&entry(WIRE), &"old").unwrap();
    assert_eq!(codec.open(&old, WIRE, NOW + 59_999).unwrap().decode::<String>().unwrap(), "old");
    assert_eq!(codec.open(&old, WIRE, NOW + 60_001).unwrap_err(), Refusal::Expired);
}

#[test]
fn a_ring_seals_no_more_than_random_nonces_allow() {
    let keyring = Arc::new(ring(1, &[]).at_message((1 << 32) - 1));
    let codec = Codec { sealer: Some(Arc::new(NativeSealer::new(keyring, "t").unwrap())), ..Codec::default() };
    assert!(codec.encode(&entry(WIRE), &1).is_ok());
    let error = codec.encode(&entry(WIRE), &1).unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string().split(';').next_back(), Some(" rotate it"));
}

#[test]
fn keys_that_do_not_go_together_are_refused() {
    let key = |byte: u8| MasterKey::from_bytes(&[byte; 32]).unwrap();
    let made =
        |current: u8, previous: &[u8]| Keyring::new(key(current), previous.iter().map(|byte| key(*byte)).collect());
    assert_eq!(made(1, &[2, 1]).unwrap_err(), KeyringError::CurrentIsPrevious);
    assert_eq!(made(1, &[2, 3, 2]).unwrap_err(), KeyringError::Repeated);
    assert_eq!(made(1, &[2, 3, 4, 5]).unwrap_err(), KeyringError::TooMany { given: 4 });
    assert!(made(1, &[2, 3, 4]).is_ok());
}

#[test]
fn hashed_keys_are_found_again_and_tell_nothing() {
    let hashing = |byte: u8, tenant: &str, name: &str| {
        let names = ring(byte, &[]).name_key(tenant).unwrap();
        Namespace::new(name).unwrap().hashing(Some(Arc::new(names)))
    };
    let wire = |namespace: &Namespace, key: &[u8]| namespace.wire(key).unwrap().as_bytes().to_vec();
    let users = hashing(1, "acme", "users");
    let hashed = wire(&users, b"ada@example.org");
    assert_eq!(hashed, wire(&hashing(1, "acme", "users"), b"ada@example.org"));
    let digits = hashed.strip_prefix(b"ck:users:~").unwrap();
    assert!(digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit));
    assert_eq!(users.with_wire(b"ada@example.org", <[u8]>::to_vec).unwrap(), hashed);
    let mut others = HashSet::from([digits.to_vec()]);
    for (namespace, key) in [
        (&users, &b"ada@example.com"[..]),
        (&hashing(1, "other", "users"), b"ada@example.org"),
        (&hashing(2, "acme", "users"), b"ada@example.org"),
        (&users.beside("orders").unwrap(), b"ada@example.org"),
    ] {
        let wire = wire(namespace, key);
        assert!(others.insert(wire[wire.len() - 64..].to_vec()));
    }
    assert!(users.wire(b"").is_err() && users.beside("orders").unwrap().hashes_keys());
    // Another key for the same store, of the same length, whatever is hashed.
    assert_eq!(wire(&users, &[b'x'; 5000]).len(), hashed.len());
}

#[test]
fn nothing_of_a_key_is_shown() {
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        ring(0xab, &[0xcd]),
        MasterKey::from_bytes(&[0xab; 32]).unwrap(),
        NativeSealer::new(Arc::new(ring(0xab, &[])), "tenant-canary").unwrap(),
        Encryption::new(ring(0xab, &[])).with_tenant("tenant-canary"),
        ring(0xab, &[]).name_key("t").unwrap(),
    );
    let derived = derive_native(&[0xab; 32], Use::Entries, "tenant-canary").unwrap();
    for secret in ["abab", "cdcd", "171, 171", "canary", &hex(&derived[..4])] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn compression_comes_before_encryption() {
    let mut codec = codec(ring(1, &[]), "t");
    let long = codec.encode(&entry(WIRE), &"v".repeat(100_000)).unwrap();
    assert!(long.len() < 1000);
    codec.compression = Compression::None;
    assert!(codec.encode(&entry(WIRE), &"v".repeat(100_000)).unwrap().len() > 100_000);
}
