//! The seam for encryption, exercised with a toy cipher: what matters is what the pipeline does around it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// XOR with a hash of key and nonce, and a keyed hash as tag. Good enough to notice changes; no cipher.
#[derive(Debug)]
struct Toy {
    key: u64,
    drawn: AtomicU64,
}

impl Toy {
    fn mask(&self, nonce: &[u8], text: &mut [u8]) {
        for (index, byte) in text.iter_mut().enumerate() {
            let seed = self.key.wrapping_add(index as u64);
            *byte ^= twox_hash::XxHash3_64::oneshot_with_seed(seed, nonce) as u8;
        }
    }

    fn tag(&self, aad: &[u8], nonce: &[u8], text: &[u8]) -> [u8; TAG_LEN] {
        let all = [aad, nonce, text].concat();
        let halves = [self.key, !self.key].map(|seed| twox_hash::XxHash3_64::oneshot_with_seed(seed, &all));
        (u128::from(halves[0]) << 64 | u128::from(halves[1])).to_le_bytes()
    }
}

impl Sealer for Toy {
    fn cipher(&self) -> Cipher {
        Cipher::Aes256Gcm
    }

    fn seal(&self, aad: &[u8], nonce: &mut [u8; NONCE_LEN], text: &mut [u8]) -> Result<[u8; TAG_LEN], SealError> {
        assert_eq!(*nonce, [0; NONCE_LEN]);
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        if drawn == u64::MAX {
            return Err(SealError::Random);
        }
        nonce[..8].copy_from_slice(&drawn.to_le_bytes());
        nonce[8..].copy_from_slice(&[0xaa; 4]);
        self.mask(nonce, text);
        Ok(self.tag(aad, nonce, text))
    }

    fn key_name(&self) -> KeyName {
        KeyName::new(NAME)
    }

    fn open(&self, sealed: &Sealed<'_>, text: &mut [u8]) -> Result<(), OpenError> {
        if self.key == 0 {
            return Err(OpenError::NoKey);
        }
        if *sealed.tag != self.tag(sealed.associated_data, sealed.nonce, text) {
            return Err(OpenError::Tampered);
        }
        self.mask(sealed.nonce, text);
        Ok(())
    }
}

const NAME: u64 = 0x0102_0304_0506_0708;

fn secure(compression: Compression, key: u64) -> Codec {
    Codec { sealer: Some(Arc::new(Toy { key, drawn: AtomicU64::new(1) })), ..codec(compression) }
}

#[test]
fn a_sealed_value_comes_back_and_does_not_show() {
    for compression in COMPRESSIONS {
        let codec = secure(compression, 7);
        let text = "canary ".repeat(200);
        let stored = codec.encode(&entry(), &text).unwrap();
        assert!(!stored.windows(6).any(|window| window == b"canary"));
        assert_eq!(codec.open(&stored, KEY, NOW).unwrap().decode::<String>().unwrap(), text);
        let stored = codec.encode_bytes(&entry(), text.as_bytes()).unwrap();
        assert_eq!(codec.open(&stored, KEY, NOW).unwrap().bytes().unwrap(), text);
        assert_eq!(codec.encode_bytes(&entry(), b"").map(|stored| stored.len()).unwrap(), 88 + KEY.len() + 28);
    }
}

#[test]
fn every_altered_cut_or_extended_sealed_entry_is_tampering() {
    let codec = secure(ZSTD, 7);
    let tagged = NewEntry { tags: &[Tag { name: b"team", epoch: 9 }], ..entry() };
    let stored = codec.encode(&tagged, &"v".repeat(300)).unwrap();
    for position in 0..stored.len() {
        for flip in [1u8, 0x80, 0xff] {
            let mut altered = stored.to_vec();
            altered[position] ^= flip;
            assert_eq!(codec.open(&altered.into(), KEY, NOW).unwrap_err(), Refusal::Tampered, "byte {position}");
        }
        assert_eq!(codec.open(&stored.slice(..position), KEY, NOW).unwrap_err(), Refusal::Tampered);
    }
    let extended = Bytes::from([&stored[..], &[0]].concat());
    assert_eq!(codec.open(&extended, KEY, NOW).unwrap_err(), Refusal::Tampered);
    assert_eq!(codec.open(&stored, b"ck:users:43", NOW).unwrap_err(), Refusal::Tampered);
    assert!(codec.open(&stored, KEY, NOW).is_ok());
}

#[test]
fn plaintext_planted_in_an_encrypting_cache_has_a_class_of_its_own() {
    let plain = Codec::default().encode(&entry(), &1).unwrap();
    assert_eq!(secure(ZSTD, 7).open(&plain, KEY, NOW).unwrap_err(), Refusal::Plaintext);
    // Also under another key: it is not what was asked for in more ways than one.
    assert_eq!(secure(ZSTD, 7).open(&plain, b"ck:users:43", NOW).unwrap_err(), Refusal::Plaintext);
    // What is not even a whole plain entry is anybody's bytes.
    for foreign in [&b""[..], b"plain", &plain[..plain.len() - 1], b"\xC1CKN"] {
        let foreign = Bytes::copy_from_slice(foreign);
        assert_eq!(secure(ZSTD, 7).open(&foreign, KEY, NOW).unwrap_err(), Refusal::Tampered);
    }
    assert!(Codec::default().open(&plain, KEY, NOW).is_ok());
}

#[test]
fn a_sealer_is_not_asked_about_entries_of_no_cipher_or_another() {
    /// Would accept anything.
    #[derive(Debug)]
    struct Gullible;
    impl Sealer for Gullible {
        fn cipher(&self) -> Cipher {
            Cipher::Aes256Gcm
        }
        fn seal(&self, _: &[u8], _: &mut [u8; NONCE_LEN], _: &mut [u8]) -> Result<[u8; TAG_LEN], SealError> {
            Ok([0; TAG_LEN])
        }
        fn key_name(&self) -> KeyName {
            KeyName::new(NAME)
        }
        fn open(&self, _: &Sealed<'_>, _: &mut [u8]) -> Result<(), OpenError> {
            Ok(())
        }
    }
    let codec = Codec { sealer: Some(Arc::new(Gullible)), ..Codec::default() };
    let sealed = codec.encode_bytes(&entry(), &noise(50)).unwrap();
    assert!(codec.open(&sealed, KEY, NOW).is_ok());
    let plain = Codec::default().encode_bytes(&entry(), &noise(50)).unwrap();
    assert_eq!(codec.open(&plain, KEY, NOW).unwrap_err(), Refusal::Plaintext);
    let mut other = sealed.to_vec();
    other[19] = 2;
    assert_eq!(codec.open(&other.into(), KEY, NOW).unwrap_err(), Refusal::Tampered);
}

#[test]
fn a_missing_key_is_a_setting_and_no_alarm() {
    let stored = secure(ZSTD, 7).encode(&entry(), &1).unwrap();
    assert_eq!(Codec::default().open(&stored, KEY, NOW).unwrap_err(), Refusal::Sealed);
    assert_eq!(secure(ZSTD, 0).open(&stored, KEY, NOW).unwrap_err(), Refusal::Sealed);
    // Another key is indistinguishable from an alteration.
    assert_eq!(secure(ZSTD, 8).open(&stored, KEY, NOW).unwrap_err(), Refusal::Tampered);
    let seen = Codec::default().inspect(&stored, NOW).unwrap();
    assert_eq!((seen.verdict, seen.envelope.wire_key()), (Err(Refusal::Sealed), KEY));
}

#[test]
fn a_sealer_that_fails_writes_nothing() {
    let toy = Toy { key: 7, drawn: AtomicU64::new(u64::MAX) };
    let codec = Codec { sealer: Some(Arc::new(toy)), ..Codec::default() };
    assert!(matches!(codec.encode(&entry(), &1), Err(EncodeError::Seal(SealError::Random))));
}

#[test]
fn a_sealed_entry_names_its_key_where_others_have_their_checksum() {
    let stored = secure(ZSTD, 7).encode(&entry(), &1).unwrap();
    assert_eq!(stored[8..16], NAME.to_le_bytes());
}

/// What is wrong with an entry that somebody with the key wrote is not tampering.
#[test]
fn an_authentic_entry_that_cannot_be_used_is_no_alarm() {
    let toy = Toy { key: 7, drawn: AtomicU64::new(1) };
    let mut stored = secure(Compression::None, 7).encode_bytes(&entry(), b"value").unwrap().to_vec();
    let payload_at = HEADER_LEN + KEY.len();
    let resealed = |stored: &mut Vec<u8>| {
        let end = stored.len() - TAG_LEN;
        let tag =
            toy.tag(&stored[..payload_at], &stored[payload_at..][..NONCE_LEN], &stored[payload_at + NONCE_LEN..end]);
        stored[end..].copy_from_slice(&tag);
    };
    stored[20] = 9;
    assert_eq!(secure(ZSTD, 7).open(&stored.clone().into(), KEY, NOW).unwrap_err(), Refusal::Tampered);
    // `Toy` takes its tag before it decrypts, as the cipher does.
    resealed(&mut stored);
    assert_eq!(secure(ZSTD, 7).open(&stored.clone().into(), KEY, NOW).unwrap_err(), Refusal::Corrupt);
    (stored[20], stored[16]) = (0, 0x80);
    resealed(&mut stored);
    assert_eq!(secure(ZSTD, 7).open(&stored.into(), KEY, NOW).unwrap_err(), Refusal::Version);
}

#[test]
fn a_touched_sealed_entry_is_sealed_anew_with_another_nonce() {
    let codec = secure(ZSTD, 7);
    let stored = codec.encode(&entry(), &"v".repeat(300)).unwrap();
    let later = codec.retime(&stored, KEY, NOW, |times| Times { expires_ms: NOW + 90_000, ..times }).unwrap();
    let nonce = |entry: &Bytes| entry.slice(HEADER_LEN + KEY.len()..HEADER_LEN + KEY.len() + NONCE_LEN);
    assert_ne!(nonce(&stored), nonce(&later));
    let opened = codec.open(&later, KEY, NOW + 89_999).unwrap();
    assert_eq!(opened.decode::<String>().unwrap(), "v".repeat(300));
    // The life of a sealed entry cannot be lengthened without the key.
    let mut forged = stored.to_vec();
    forged[48..56].copy_from_slice(&later[48..56]);
    assert_eq!(codec.open(&forged.into(), KEY, NOW).unwrap_err(), Refusal::Tampered);
}

#[test]
fn a_sealed_value_beyond_the_limit_is_refused() {
    let writer = secure(Compression::None, 7);
    let reader = |max_value| Codec { max_value, ..secure(ZSTD, 7) };
    let stored = writer.encode_bytes(&entry(), &noise(1000)).unwrap();
    assert!(reader(1000).open(&stored, KEY, NOW).is_ok());
    assert_eq!(reader(999).open(&stored, KEY, NOW).unwrap_err(), Refusal::TooLarge);
    let folded = secure(ZSTD, 7).encode_bytes(&entry(), &[0; 1000]).unwrap();
    assert_eq!(reader(999).open(&folded, KEY, NOW).unwrap_err(), Refusal::TooLarge);
}
