//! The whole way of a document into its entry and back, beside what its parts take by themselves.
//!
//! The parts are the best libraries as they are used best, each timed alone in the same rounds: a context that is kept, a
//! buffer that is large enough, one allocation for what stays. What the whole takes beyond their sum is ours: the header, the
//! checks, and what goes from hand to hand.

use std::hint::black_box;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use cachekit_core::codec::{Compression, DEFAULT_THRESHOLD, HEADER_LEN, NONCE_LEN, TAG_LEN};
use cachekit_core::crypto::Provider;

use super::document::Document;
use super::{NOW_MS, WIRE_KEY, codec, new_entry, sealer};
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{Contender, Timing, work_in_turns};
use crate::{Effort, Failure};

/// What a part may cost more for being one of several.
const GOAL: Goal = Goal::RatioAtMost(1.10);
const ZSTD: Compression = Compression::Zstd { level: 3, threshold: DEFAULT_THRESHOLD };

/// The ways there are: with zstd, sealed.
const WAYS: [(&str, Compression, bool); 4] = [
    ("as it is", Compression::None, false),
    ("zstd 3", ZSTD, false),
    ("sealed", Compression::None, true),
    ("zstd 3, sealed", ZSTD, true),
];

/// Runs `count` calls of ours and nothing else, for a profiler.
pub(super) fn calls(operation: &str, way: &str, count: u64, document: &Document) -> Result<(), Failure> {
    let known = WAYS.iter().find(|(name, ..)| *name == way);
    let (_, compression, sealed) = known.ok_or("a way is as it is, zstd 3, sealed, or zstd 3, sealed")?;
    let codec = codec(*compression, sealed.then(|| sealer(Provider::in_use())).transpose()?);
    let stored = codec.encode(&new_entry(), document)?;
    for _ in 0..count {
        match operation {
            "encode" => drop(black_box(codec.encode(&new_entry(), black_box(document))?)),
            "decode" => drop(black_box(codec.open(&stored, WIRE_KEY, NOW_MS)?.decode::<Document>()?)),
            _ => return Err("an operation is encode or decode".into()),
        }
    }
    Ok(())
}

pub(super) fn run(effort: Effort, report: &mut Report, document: &Document) -> Result<(), Failure> {
    for (name, compression, sealed) in WAYS {
        let codec = codec(compression, sealed.then(|| sealer(Provider::in_use())).transpose()?);
        let stored = codec.encode(&new_entry(), document)?;
        let payload = rmp_serde::to_vec_named(document)?;
        let compresses = compression != Compression::None;
        let packed = if compresses { zstd::bulk::compress(&payload, 3)? } else { payload.clone() };

        let mut contenders = vec![Contender::new("encode", |count| {
            for _ in 0..count {
                black_box(codec.encode(&new_entry(), black_box(document)).expect("it is small enough"));
            }
        })];
        contenders.push(serializing(document));
        contenders.push(if compresses { compressing(&payload)? } else { copying(&stored) });
        contenders.push(if sealed { sealing(packed.clone())? } else { summing(&stored) });
        compare(report, &format!("encode, {name}"), &work_in_turns(effort, contenders));

        let mut contenders = vec![Contender::new("decode", |count| {
            for _ in 0..count {
                let opened = codec.open(&stored, WIRE_KEY, NOW_MS).expect("it was written just now");
                black_box(opened.decode::<Document>().expect("it is a document"));
            }
        })];
        contenders.push(deserializing(&payload));
        if compresses {
            contenders.push(expanding(packed.clone(), payload.len())?);
        }
        contenders.push(if sealed { opening(packed)? } else { summing(&stored) });
        compare(report, &format!("decode, {name}"), &work_in_turns(effort, contenders));
    }
    Ok(())
}

fn compare(report: &mut Report, case: &str, timings: &[Timing]) {
    let [whole, parts @ ..] = timings else { return };
    let sum = parts.iter().map(|part| part.median_ns).sum();
    let best = parts.iter().map(|part| part.min_ns).sum();
    let sum = Figure { name: "sum of the parts".into(), value: sum, best: Some(best) };
    report.rows.push(Row::beside(case, "ns", Figure::from(whole), sum, Some(GOAL)));
    for part in parts {
        report.rows.push(Row::alone(format!("  {case}"), "ns", Figure::from(part), None));
    }
}

fn serializing(document: &Document) -> Contender<'_> {
    let mut buffer = Vec::with_capacity(16 << 10);
    Contender::new("rmp-serde", move |count| {
        for _ in 0..count {
            buffer.clear();
            rmp_serde::encode::write_named(&mut buffer, black_box(document)).expect("it is a document");
            black_box(&buffer);
        }
    })
}

fn deserializing(payload: &[u8]) -> Contender<'_> {
    Contender::new("rmp-serde", move |count| {
        for _ in 0..count {
            black_box(rmp_serde::from_slice::<Document>(black_box(payload)).expect("it is a document"));
        }
    })
}

/// Into a buffer of its own, as an entry is.
fn compressing(payload: &[u8]) -> Result<Contender<'_>, Failure> {
    let mut context = zstd::bulk::Compressor::new(3)?;
    Ok(Contender::new("zstd 3, kept", move |count| {
        for _ in 0..count {
            let mut out = Vec::with_capacity(HEADER_LEN + WIRE_KEY.len() + payload.len());
            context.compress_to_buffer(black_box(payload), &mut out).expect("there is room");
            out.shrink_to_fit();
            black_box(out);
        }
    }))
}

fn expanding<'a>(packed: Vec<u8>, len: usize) -> Result<Contender<'a>, Failure> {
    let mut context = zstd::bulk::Decompressor::new()?;
    let mut out = Vec::with_capacity(len);
    Ok(Contender::new("zstd, kept", move |count| {
        for _ in 0..count {
            out.clear();
            black_box(context.decompress_to_buffer(black_box(&packed), &mut out).expect("it is whole"));
        }
    }))
}

/// Into an allocation that stays.
fn copying(stored: &Bytes) -> Contender<'_> {
    Contender::new("one copy", move |count| {
        for _ in 0..count {
            black_box(Bytes::copy_from_slice(black_box(stored)));
        }
    })
}

fn summing(stored: &Bytes) -> Contender<'_> {
    Contender::new("XXH3", move |count| {
        for _ in 0..count {
            black_box(twox_hash::XxHash3_64::oneshot(black_box(stored)));
        }
    })
}

fn key() -> Result<LessSafeKey, Failure> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(|_| "a key")?))
}

fn sealing<'a>(mut text: Vec<u8>) -> Result<Contender<'a>, Failure> {
    let key = key()?;
    Ok(Contender::new("nonce and AES", move |count| {
        for _ in 0..count {
            let mut nonce = [0; NONCE_LEN];
            getrandom::fill(&mut nonce).expect("the system gives random bytes");
            let nonce = Nonce::assume_unique_for_key(nonce);
            black_box(key.seal_in_place_separate_tag(nonce, Aad::from(&WIRE_KEY), &mut text).is_ok());
        }
    }))
}

/// On a copy: what the store returned is shared.
fn opening<'a>(mut text: Vec<u8>) -> Result<Contender<'a>, Failure> {
    let (key, nonce) = (key()?, || Nonce::assume_unique_for_key([1; NONCE_LEN]));
    let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(&WIRE_KEY), &mut text).map_err(|_| "it seals")?;
    let tag: [u8; TAG_LEN] = tag.as_ref().try_into()?;
    Ok(Contender::new("AES, on a copy", move |count| {
        for _ in 0..count {
            let mut copy = text.clone();
            let opened = key.open_in_place_separate_tag(nonce(), Aad::from(&WIRE_KEY), &tag, &mut copy);
            black_box(opened.is_ok());
        }
    }))
}
