//! Signatures that the program `minisign` 0.11 made, whole and damaged.

use std::fs;
use std::path::PathBuf;

use super::*;

const SIGNED: &[u8] = include_bytes!("fixtures/signed.bin");
const BY_ONE: &str = include_str!("fixtures/one.minisig");
const BY_TWO: &str = include_str!("fixtures/two.minisig");
const LEGACY: &str = include_str!("fixtures/legacy.minisig");

fn key(text: &str) -> TrustedKey {
    text.lines().nth(1).unwrap().parse().unwrap()
}

fn one() -> TrustedKey {
    key(include_str!("fixtures/one.pub"))
}

fn two() -> TrustedKey {
    key(include_str!("fixtures/two.pub"))
}

/// A file beside which a signature lies.
struct Place {
    _dir: tempfile::TempDir,
    library: PathBuf,
}

fn place(signature: &[u8]) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("lib.so");
    fs::write(signature_path(&library), signature).unwrap();
    Place { _dir: dir, library }
}

fn judged(signature: &str, bytes: &[u8], keys: &[TrustedKey]) -> Result<Option<Signer>, String> {
    let place = place(signature.as_bytes());
    verify(&place.library, bytes, keys).map_err(|error| error.to_string())
}

#[test]
fn a_real_signature_is_taken_and_tells_what_was_said_with_it() {
    let signer = judged(BY_ONE, SIGNED, &[two(), one()]).unwrap().unwrap();
    assert_eq!(signer.key, "DEB20114C80C09FF");
    assert_eq!(signer.to_string(), "minisign DEB20114C80C09FF (signed.bin of acme 1.2.0)");
    assert_eq!(judged(BY_TWO, SIGNED, &[two()]).unwrap().unwrap().trusted_comment, "by another hand");
}

#[test]
fn a_key_has_the_number_that_minisign_prints() {
    assert_eq!(one().id(), "DEB20114C80C09FF");
    assert_eq!(two().id(), "2A574686C24A3E1B");
    for wrong in ["", "RW", "untrusted comment: minisign public key", &"A".repeat(56), &"é".repeat(28)] {
        assert!(wrong.parse::<TrustedKey>().is_err(), "{wrong}");
    }
}

#[test]
fn a_file_without_a_signature_is_unsigned() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(verify(&dir.path().join("lib.so"), SIGNED, &[one()]).unwrap(), None);
}

#[test]
fn other_bytes_other_keys_and_other_comments_are_refused_by_name() {
    let mut tampered = SIGNED.to_vec();
    tampered[7] ^= 1;
    let changed_comment = BY_ONE.replace("acme 1.2.0", "acme 9.9.9");
    assert_ne!(changed_comment, BY_ONE);
    for (what, signature, bytes, keys, words) in [
        ("a flipped bit", BY_ONE, &tampered[..], vec![one()], "not one of these bytes"),
        ("a byte less", BY_ONE, &SIGNED[1..], vec![one()], "not one of these bytes"),
        ("another key", BY_TWO, SIGNED, vec![one()], "2A574686C24A3E1B, which is not trusted"),
        ("no key at all", BY_ONE, SIGNED, vec![], "trusted_keys has none"),
        ("a changed comment", &changed_comment, SIGNED, vec![one()], "its comment was changed"),
        ("minisign's old form", LEGACY, SIGNED, vec![one()], "old form"),
        ("no signature", "untrusted comment: x\nAAAA\n", SIGNED, vec![one()], "is no signature"),
        ("nothing", "", SIGNED, vec![one()], "is no signature"),
    ] {
        let error = judged(signature, bytes, &keys).expect_err(what);
        assert!(error.contains(words), "{what}: {words:?} is not in {error:?}");
    }
}

#[test]
fn a_damaged_signature_never_passes_and_never_panics() {
    // Letters of the two lines that count; a changed one may be no base64, another key, or no signature of these bytes.
    for at in (0..BY_ONE.len()).step_by(3) {
        let mut damaged = BY_ONE.as_bytes().to_vec();
        damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
        let place = place(&damaged);
        let said = verify(&place.library, SIGNED, &[one()]);
        // The first line is a comment that nobody signed.
        assert_eq!(said.is_ok(), at < BY_ONE.find('\n').unwrap(), "byte {at}");
    }
    for cut in 0..BY_ONE.trim_end().len() {
        let place = place(&BY_ONE.as_bytes()[..cut]);
        assert!(verify(&place.library, SIGNED, &[one()]).is_err(), "{cut} bytes");
    }
}

#[test]
fn a_signature_that_is_no_small_text_is_refused() {
    let long = place(&vec![b'x'; 9 << 10]);
    assert!(verify(&long.library, SIGNED, &[one()]).unwrap_err().to_string().contains("more than 8192 bytes"));
    let binary = place(b"\xff\xfe");
    assert!(verify(&binary.library, SIGNED, &[one()]).is_err());
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("lib.so");
    fs::create_dir(signature_path(&library)).unwrap();
    assert!(verify(&library, SIGNED, &[one()]).unwrap_err().to_string().contains("regular file"));
}

#[test]
fn a_comment_brings_nothing_to_the_terminal_that_moves_its_cursor() {
    assert_eq!(shown("a\u{1b}[31m\u{202e}ü"), "a?[31m?ü");
    assert_eq!(shown(&"x".repeat(1000)).len(), MAX_COMMENT);
}
