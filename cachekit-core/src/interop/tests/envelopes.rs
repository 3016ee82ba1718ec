//! ByteStorage envelopes: `bytestorage.json`.

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::{bytes, document, file, list, text};
use crate::interop::{
    EnvelopeFault, FORMAT_MSGPACK, InteropError, MAX_ENVELOPE_BYTES, checksum, hex, read_envelope, write_envelope,
};

const LIMIT: u64 = MAX_ENVELOPE_BYTES as u64;

fn payload(entry: &Json) -> Vec<u8> {
    let recipe = &entry["payload"];
    match text(recipe, "kind") {
        "hex" => bytes(recipe, "hex"),
        "repeat" => bytes(recipe, "hex").repeat(recipe["count"].as_u64().unwrap() as usize),
        _ => {
            let len = recipe["len"].as_u64().unwrap() as usize;
            let seed = text(recipe, "seed").as_bytes();
            let block = |counter: u64| Sha256::new().chain_update(seed).chain_update(counter.to_be_bytes()).finalize();
            (0..).flat_map(|counter| block(counter).to_vec()).take(len).collect()
        }
    }
}

/// Everything of an envelope but its compressed block, which is not canonical.
fn without_block(envelope: &[u8], block_len: usize) -> Vec<u8> {
    let head = match block_len {
        0..=0xff => 3,
        0x100..=0xffff => 4,
        _ => 6,
    };
    [&envelope[..1], &envelope[head + block_len..]].concat()
}

#[test]
fn every_envelope_of_python_is_read_and_the_same_is_written_but_for_its_block() {
    for entry in list(&document("bytestorage"), "vectors", 27) {
        let name = text(&entry, "name");
        let payload = payload(&entry);
        let recorded = match entry["envelope_hex"].as_str() {
            Some(_) => bytes(&entry, "envelope_hex"),
            None => file(text(&entry, "envelope_file")),
        };
        let format = entry["format"].as_str().unwrap_or(FORMAT_MSGPACK);
        if let Some(digest) = entry["payload_sha256"].as_str() {
            assert_eq!(hex(&Sha256::digest(&payload)), digest, "{name}");
            assert_eq!(hex(&Sha256::digest(&recorded)), text(&entry, "envelope_sha256"), "{name}");
            assert_eq!(hex(&checksum(&payload)), text(&entry, "xxh3_64_be"), "{name}");
        }
        let read = read_envelope(&recorded, LIMIT).unwrap();
        assert!(read.payload == payload && read.format == format, "{name}");

        let written = write_envelope(&payload, format).unwrap();
        assert!(read_envelope(&written, LIMIT).unwrap() == read, "{name}");
        if let Some(block_len) = entry["lz4_block_len"].as_u64() {
            let ours = without_block(&written, lz4_flex::block::compress(&payload).len());
            assert_eq!(ours, without_block(&recorded, block_len as usize), "{name}");
        }
    }
}

#[test]
fn hand_made_envelopes_are_taken_as_python_takes_them() {
    for entry in list(&document("bytestorage"), "reader", 37) {
        let envelope = match entry["hex"].as_str() {
            Some(_) => bytes(&entry, "hex"),
            None => {
                let (size, zeros) = (536_870_913_u32.to_be_bytes(), vec![0; 600_000]);
                let len = 600_000_u32.to_be_bytes();
                [b"\x94\xc6", &len[..], &zeros, b"\x98\x01\x02\x03\x04\x05\x06\x07\x08\xce", &size, b"\xa7msgpack"]
                    .concat()
            }
        };
        let answer = read_envelope(&envelope, LIMIT);
        super::judged(&entry, &answer);
        match answer {
            Ok(stored) => {
                assert_eq!(hex(&stored.payload), text(&entry, "payload_hex"), "{}", entry["name"]);
                assert_eq!(stored.format, text(&entry, "format"));
            }
            Err(InteropError::Envelope(fault)) => {
                let theirs = text(&entry["error"], "class");
                assert_eq!(fault.is_integrity(), theirs == "EnvelopeIntegrityError", "{}: {fault}", entry["name"]);
            }
            Err(other) => panic!("{}: {other}", entry["name"]),
        }
    }
}

#[test]
fn a_callers_own_limit_comes_before_any_memory() {
    let envelope = write_envelope(&[7; 10_000], FORMAT_MSGPACK).unwrap();
    assert!(read_envelope(&envelope, 10_000).is_ok());
    assert_eq!(read_envelope(&envelope, 9_999).unwrap_err(), EnvelopeFault::TooLarge.into());
}

/// The control: each bit, flipped, is seen, or it changes nothing of the payload.
#[test]
fn an_envelope_that_is_damaged_anywhere_gives_no_other_payload() {
    let payload = b"a payload with some repetition, repetition, repetition".repeat(3);
    let envelope = write_envelope(&payload, FORMAT_MSGPACK).unwrap();
    for at in 0..envelope.len() {
        for bit in 0..8 {
            let mut damaged = envelope.clone();
            damaged[at] ^= 1 << bit;
            match read_envelope(&damaged, LIMIT) {
                // The name of the format is not covered, and a repetition may be copied from elsewhere.
                Ok(stored) => assert!(stored.payload == payload, "byte {at}, bit {bit}"),
                Err(error) => assert!(matches!(error, InteropError::Envelope(_))),
            }
        }
    }
}
