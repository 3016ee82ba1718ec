//! No nonce repeats: not in children of `fork()`, not across restarts.
//!
//! A binary of its own with one thread, because only such a process may be copied by `fork()` and go on. Given `--seal-once`
//! it seals one entry and prints its nonce; that is a restart. Without arguments it is the test: 64 children seal a
//! thousand entries each, and the binary is started again a thousand times, or as often as `CACHEKIT_RESTARTS` says.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cachekit_core::codec::{
    Cipher, Codec, HEADER_LEN, KeyName, Meta, NONCE_LEN, NewEntry, OpenError, SealError, Sealed, Sealer, TAG_LEN, Times,
};
use cachekit_core::crypto::{Keyring, MasterKey, NativeSealer};

const CHILDREN: usize = 64;
const SEALS: usize = 1_000;
const WIRE: &[u8] = b"ck:default:k";

type Nonce = [u8; NONCE_LEN];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--seal-once") {
        println!("{}", hex(&seal(&codec())));
        return;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let nonces = forked(&codec());
    assert_eq!(nonces.len(), CHILDREN * SEALS + SEALS);
    assert_eq!(repeated(&nonces), 0, "children of fork() repeated nonces");
    // The control: what is counted in memory is copied with it, and the second child repeats the first.
    let counted = forked(&Codec { sealer: Some(Arc::new(Counter(AtomicU64::new(0)))), ..Codec::default() });
    assert_eq!(repeated(&counted), (CHILDREN - 1) * SEALS, "the check does not see what it is meant to see");
    println!(
        "forks: {CHILDREN} children, {SEALS} seals each, 0 repeated; counter as a control: {} repeated",
        repeated(&counted)
    );

    let restarts = std::env::var("CACHEKIT_RESTARTS").ok().map_or(1_000, |count| count.parse().expect("a number"));
    let this = std::env::current_exe().expect("this program");
    let restarted: Vec<String> = (0..restarts)
        .map(|_| {
            let output = Command::new(&this).arg("--seal-once").output().expect("a restart");
            assert!(output.status.success());
            String::from_utf8(output.stdout).expect("hex digits").trim().to_owned()
        })
        .collect();
    assert!(restarted.iter().all(|nonce| nonce.len() == 2 * NONCE_LEN));
    let mut all: HashSet<String> = nonces.iter().map(|nonce| hex(nonce)).collect();
    let repeats = restarted.into_iter().filter(|nonce| !all.insert(nonce.clone())).count();
    assert_eq!(repeats, 0, "a restart repeated a nonce");
    println!("restarts: {restarts}, 0 repeated");
}

fn codec() -> Codec {
    let key = MasterKey::from_bytes(&[7; 32]).expect("32 bytes");
    let ring = Keyring::new(key, Vec::new()).expect("a ring");
    Codec { sealer: Some(Arc::new(NativeSealer::new(Arc::new(ring), "t").expect("a sealer"))), ..Codec::default() }
}

/// The nonce of an entry that was sealed the way the engine does it.
fn seal(codec: &Codec) -> Nonce {
    let times = Times { created_ms: 1, ..Times::default() };
    let entry = NewEntry { wire_key: WIRE, meta: Meta { times, ..Meta::default() }, tags: &[] };
    let stored = codec.encode_bytes(&entry, b"value").expect("an entry");
    *stored[HEADER_LEN + WIRE.len()..].first_chunk().expect("a nonce")
}

/// The nonces of children that all begin where the parent was, which has sealed before, and of the parent.
fn forked(codec: &Codec) -> Vec<Nonce> {
    let mut nonces: Vec<Nonce> = (0..SEALS).map(|_| seal(codec)).collect();
    let children: Vec<_> = (0..CHILDREN)
        .map(|_| {
            let (reader, mut writer) = std::io::pipe().expect("a pipe");
            if fork() == 0 {
                // As much as a pipe holds, so that nobody waits for the parent.
                let sealed: Vec<u8> = (0..SEALS).flat_map(|_| seal(codec)).collect();
                let told = writer.write_all(&sealed).is_ok();
                drop(writer);
                std::process::exit(i32::from(!told));
            }
            reader
        })
        .collect();
    for mut reader in children {
        let mut sealed = Vec::new();
        reader.read_to_end(&mut sealed).expect("a child's nonces");
        assert_eq!(sealed.len(), SEALS * NONCE_LEN, "a child did not finish");
        nonces.extend(sealed.chunks_exact(NONCE_LEN).map(|nonce| *nonce.first_chunk().expect("a nonce")));
    }
    nonces
}

/// The id of the child in the parent, 0 in the child. Children are not waited for: this process ends soon.
fn fork() -> i32 {
    unsafe extern "C" {
        fn fork() -> i32;
    }
    // SAFETY: takes no arguments; this program has one thread, so the child lacks none and finds no lock held.
    let pid = unsafe { fork() };
    assert!(pid >= 0, "fork() failed");
    pid
}

fn repeated(nonces: &[Nonce]) -> usize {
    nonces.len() - nonces.iter().collect::<HashSet<_>>().len()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What must not be done.
#[derive(Debug)]
struct Counter(AtomicU64);

impl Sealer for Counter {
    fn cipher(&self) -> Cipher {
        Cipher::Aes256Gcm
    }

    fn key_name(&self) -> KeyName {
        KeyName::new(1)
    }

    fn seal(&self, _: &[u8], nonce: &mut Nonce, _: &mut [u8]) -> Result<[u8; TAG_LEN], SealError> {
        nonce[..8].copy_from_slice(&self.0.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        Ok([0; TAG_LEN])
    }

    fn open(&self, _: &Sealed<'_>, _: &mut [u8]) -> Result<(), OpenError> {
        Ok(())
    }
}
