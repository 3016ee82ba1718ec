//! AES-256-GCM, its nonces, and the checksum of entries that are not sealed.

use std::hint::black_box;
use std::sync::Arc;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, KeyInit};
use cachekit_core::codec::{NONCE_LEN, Sealer};
use cachekit_core::crypto::Provider;

use crate::report::{Figure, Report, Row};
use crate::rounds::{Contender, Timing, work_in_turns};
use crate::{Effort, Failure};

const KEY: [u8; 32] = [7; 32];
/// As long as the associated data of an entry: header, key, a tag.
const ASSOCIATED: [u8; 144] = [3; 144];

pub(super) fn run(effort: Effort, report: &mut Report) -> Result<(), Failure> {
    nonce(effort, report);
    for size in [64, 16 << 10, 1 << 20] {
        seal(effort, report, size)?;
    }
    checksum(effort, report);
    Ok(())
}

fn draw() -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).expect("the system gives random bytes");
    nonce
}

/// What only the operating system can give.
fn nonce(effort: Effort, report: &mut Report) {
    let draws = Contender::new("getrandom", |count| {
        for _ in 0..count {
            black_box(draw());
        }
    });
    let timings = work_in_turns(effort, vec![draws]);
    report.rows.push(Row::alone("a nonce from the system", "ns", Figure::from(&timings[0]), None));
}

fn ours<'a>(name: &str, provider: Provider, size: usize) -> Result<Contender<'a>, Failure> {
    let sealer: Arc<dyn Sealer> = super::sealer(provider)?;
    let mut text = vec![5; size];
    Ok(Contender::new(name, move |count| {
        for _ in 0..count {
            let mut nonce = [0; NONCE_LEN];
            black_box(sealer.seal(&ASSOCIATED, &mut nonce, &mut text).expect("it seals"));
        }
    }))
}

fn seal(effort: Effort, report: &mut Report, size: usize) -> Result<(), Failure> {
    // A peer seals with numbers that count up, or with a nonce as ours draw it.
    let mut number = 0_u64;
    let mut counted = move || {
        number += 1;
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        nonce
    };
    let (mut ring_text, mut lc_text, mut drawn_text, mut rust_text) =
        (vec![5; size], vec![5; size], vec![5; size], vec![5; size]);
    let ring_key = {
        use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).map_err(|_| "a key")?)
    };
    let lc_key = || {
        use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
        UnboundKey::new(&AES_256_GCM, &KEY).map(LessSafeKey::new).map_err(|_| "a key")
    };
    let (lc, lc_drawn) = (lc_key()?, lc_key()?);
    let rust = aes_gcm::Aes256Gcm::new(&KEY.into());
    let mut of_ring = counted.clone();
    let mut of_rust = counted.clone();
    let contenders = vec![
        ours("ours, aws-lc-rs", Provider::AwsLc, size)?,
        ours("ours, aes-gcm", Provider::RustCrypto, size)?,
        Contender::new("ring", |count| {
            for _ in 0..count {
                let nonce = ring::aead::Nonce::assume_unique_for_key(of_ring());
                let aad = ring::aead::Aad::from(&ASSOCIATED);
                black_box(ring_key.seal_in_place_separate_tag(nonce, aad, &mut ring_text).is_ok());
            }
        }),
        Contender::new("aws-lc-rs", |count| {
            for _ in 0..count {
                let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(counted());
                let aad = aws_lc_rs::aead::Aad::from(&ASSOCIATED);
                black_box(lc.seal_in_place_separate_tag(nonce, aad, &mut lc_text).is_ok());
            }
        }),
        Contender::new("aws-lc-rs + nonce", |count| {
            for _ in 0..count {
                let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(draw());
                let aad = aws_lc_rs::aead::Aad::from(&ASSOCIATED);
                black_box(lc_drawn.seal_in_place_separate_tag(nonce, aad, &mut drawn_text).is_ok());
            }
        }),
        Contender::new("aes-gcm", |count| {
            for _ in 0..count {
                let nonce = aes_gcm::Nonce::from(of_rust());
                let text = InOutBuf::from(&mut rust_text[..]);
                black_box(rust.encrypt_inout_detached(&nonce, &ASSOCIATED, text).is_ok());
            }
        }),
    ];
    let timings = work_in_turns(effort, contenders);
    let [fast, plain, ring, lc, drawn, rust] = &timings[..] else { return Err("six take part".into()) };
    let name = match size {
        64 => "seal 64 B".to_owned(),
        size if size < 1 << 20 => format!("seal {} KB", size >> 10),
        size => format!("seal {} MB", size >> 20),
    };
    // By time where that is what matters, else by what a reader expects of a cipher.
    let (unit, figure): (&str, Box<dyn Fn(&Timing) -> Figure>) = match size {
        64 => ("ns", Box::new(|timing| Figure::from(timing))),
        size => ("GB/s", Box::new(move |timing| per_second(timing, size))),
    };
    for (ours, peer) in [(fast, ring), (fast, lc), (fast, drawn), (plain, rust)] {
        report.rows.push(Row::beside(&name, unit, figure(ours), figure(peer), None));
    }
    Ok(())
}

/// Gigabytes per second.
fn per_second(timing: &Timing, size: usize) -> Figure {
    Figure { name: timing.name.clone(), value: size as f64 / timing.median_ns, best: Some(size as f64 / timing.min_ns) }
}

fn checksum(effort: Effort, report: &mut Report) {
    for (name, size) in [("XXH3 4 KB", 4300), ("XXH3 1 MB", 1 << 20)] {
        let bytes = vec![5_u8; size];
        let timings = work_in_turns(
            effort,
            vec![
                Contender::new("twox-hash (ours)", |count| {
                    for _ in 0..count {
                        black_box(twox_hash::XxHash3_64::oneshot(black_box(&bytes)));
                    }
                }),
                Contender::new("xxhash-rust", |count| {
                    for _ in 0..count {
                        black_box(xxhash_rust::xxh3::xxh3_64(black_box(&bytes)));
                    }
                }),
            ],
        );
        let (ours, peer) = (per_second(&timings[0], size), per_second(&timings[1], size));
        report.rows.push(Row::beside(name, "GB/s", ours, peer, None));
    }
}
