//! What compression takes and gives: of a document, and of small values with a dictionary and without.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use cachekit_core::codec::dictionary::Dictionaries;
use cachekit_core::codec::dictionary::train::Samples;
use cachekit_core::codec::{Codec, Compression, HEADER_LEN};
use lz4_flex::block::CompressTable;

use super::document::{Document, ORDERS};
use super::{NOW_MS, WIRE_KEY, codec, new_entry};
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{Contender, work_in_turns};
use crate::{Effort, Failure};

/// Everything from here on that can be compressed is.
const ALWAYS: usize = 64;

pub(super) fn run(effort: Effort, report: &mut Report) -> Result<(), Failure> {
    let payload = rmp_serde::to_vec_named(&Document::of(1, ORDERS))?;
    levels(effort, report, &payload)?;
    for (name, orders) in [("300 B", 0), ("1 KB", 4), ("2 KB", 9)] {
        with_dictionary(effort, report, name, orders)?;
    }
    Ok(())
}

/// The bytes of an entry behind its header and key.
fn payload_of(stored: &Bytes) -> usize {
    stored.len() - HEADER_LEN - WIRE_KEY.len()
}

fn writes<'a>(name: &str, codec: Codec, payload: &'a [u8]) -> Contender<'a> {
    Contender::new(name, move |count| {
        for _ in 0..count {
            black_box(codec.encode_bytes(&new_entry(), black_box(payload)).expect("it is small enough"));
        }
    })
}

fn reads<'a>(name: &str, codec: Codec, stored: Bytes) -> Contender<'a> {
    Contender::new(name, move |count| {
        for _ in 0..count {
            let opened = codec.open(&stored, WIRE_KEY, NOW_MS).expect("it was written just now");
            black_box(opened.payload().expect("it is whole"));
        }
    })
}

/// Our entries, each a new buffer with header, key and checksum, beside the library that fills one buffer again and again.
fn levels(effort: Effort, report: &mut Report, payload: &[u8]) -> Result<(), Failure> {
    let zstd = |level| codec(Compression::Zstd { level, threshold: ALWAYS }, None);
    let lz4 = codec(Compression::Lz4 { threshold: ALWAYS }, None);
    let raw = |level| -> Result<Contender<'_>, Failure> {
        let mut context = zstd::bulk::Compressor::new(level)?;
        let mut out = Vec::with_capacity(payload.len() + 1024);
        Ok(Contender::new(format!("zstd {level}, kept"), move |count| {
            for _ in 0..count {
                out.clear();
                black_box(context.compress_to_buffer(payload, &mut out).expect("there is room"));
            }
        }))
    };
    let mut table = CompressTable::large();
    let mut room = vec![0; lz4_flex::block::get_maximum_output_size(payload.len())];
    let mut fresh_room = Vec::with_capacity(payload.len() + 1024);
    let timings = work_in_turns(
        effort,
        vec![
            writes("ours", zstd(1), payload),
            raw(1)?,
            writes("ours", zstd(3), payload),
            raw(3)?,
            Contender::new("zstd 3, a context each", |count| {
                for _ in 0..count {
                    fresh_room.clear();
                    let mut context = zstd::bulk::Compressor::new(3).expect("a context");
                    black_box(context.compress_to_buffer(payload, &mut fresh_room).expect("there is room"));
                }
            }),
            writes("ours", lz4.clone(), payload),
            Contender::new("lz4_flex, kept", |count| {
                for _ in 0..count {
                    let written = lz4_flex::block::compress_into_with_table(payload, &mut room, &mut table);
                    black_box(written.expect("there is room"));
                }
            }),
        ],
    );
    let figure = |at: usize| Figure::from(&timings[at]);
    report.rows.push(Row::beside("write, zstd 1", "ns", figure(0), figure(1), None));
    report.rows.push(Row::beside("write, zstd 3", "ns", figure(2), figure(3), None));
    report.rows.push(Row::beside("write, zstd 3", "ns", figure(2), figure(4), None));
    report.rows.push(Row::beside("write, LZ4", "ns", figure(5), figure(6), None));

    let stored = |codec: &Codec| codec.encode_bytes(&new_entry(), payload);
    let (of_zstd, of_lz4) = (stored(&zstd(3))?, stored(&lz4)?);
    for (name, codec) in [("zstd 1", zstd(1)), ("zstd 3", zstd(3)), ("LZ4", lz4.clone())] {
        let ratio = payload.len() as f64 / payload_of(&stored(&codec)?) as f64;
        report.rows.push(Row::alone(format!("times smaller, {name}"), "×", Figure::new("ours", ratio), None));
    }

    let frame = of_zstd.slice(HEADER_LEN + WIRE_KEY.len()..);
    let block = of_lz4.slice(HEADER_LEN + WIRE_KEY.len()..);
    let mut context = zstd::bulk::Decompressor::new()?;
    let mut out = Vec::with_capacity(payload.len());
    let mut room = vec![0; payload.len()];
    let timings = work_in_turns(
        effort,
        vec![
            reads("ours", zstd(3), of_zstd),
            Contender::new("zstd, kept", |count| {
                for _ in 0..count {
                    out.clear();
                    black_box(context.decompress_to_buffer(&frame, &mut out).expect("it is whole"));
                }
            }),
            reads("ours", lz4, of_lz4),
            Contender::new("lz4_flex", |count| {
                for _ in 0..count {
                    black_box(lz4_flex::block::decompress_into(&block, &mut room).expect("it is whole"));
                }
            }),
        ],
    );
    let figure = |at: usize| Figure::from(&timings[at]);
    report.rows.push(Row::beside("read, zstd 3", "ns", figure(0), figure(1), None));
    report.rows.push(Row::beside("read, LZ4", "ns", figure(2), figure(3), None));
    Ok(())
}

/// Values that were not among the samples, in all sizes of their kind; compressed without a dictionary as well as can be.
fn with_dictionary(effort: Effort, report: &mut Report, name: &str, orders: usize) -> Result<(), Failure> {
    let packed = |number| rmp_serde::to_vec_named(&Document::of(number, orders));
    let mut samples = Samples::default();
    for number in 0..2_000 {
        samples.add(&rmp_serde::to_vec_named(&Document::of(number, number as usize % 10))?);
    }
    let dictionaries = Dictionaries::for_writing(Arc::new(samples.train(16 << 10)?));
    dictionaries.set_ready(true);
    let without = codec(Compression::Zstd { level: 3, threshold: ALWAYS }, None);
    let with = Codec { dictionaries: Arc::new(dictionaries), ..without.clone() };

    let (mut bytes, mut bytes_with, mut bytes_without, mut entries_with, mut entries_without) = (0, 0, 0, 0, 0);
    const VALUES: u64 = 500;
    for number in 10_000..10_000 + VALUES {
        let payload = packed(number)?;
        let stored = (with.encode_bytes(&new_entry(), &payload)?, without.encode_bytes(&new_entry(), &payload)?);
        bytes += payload.len();
        (bytes_with, bytes_without) = (bytes_with + payload_of(&stored.0), bytes_without + payload_of(&stored.1));
        (entries_with, entries_without) = (entries_with + stored.0.len(), entries_without + stored.1.len());
    }
    let mean = |name: &str, bytes: usize| Figure::new(name, bytes as f64 / VALUES as f64);
    let plain = mean("as it is", bytes);
    let case = format!("{name} of {:.0}: payload", plain.value);
    let (dictionary, zstd) = (|bytes| mean("dictionary", bytes), |bytes| mean("zstd 3", bytes));
    let smaller = Some(Goal::RatioAtMost(1.0 / 1.5));
    report.rows.push(Row::beside(&case, "bytes", dictionary(bytes_with), zstd(bytes_without), smaller));
    report.rows.push(Row::beside(&case, "bytes", dictionary(bytes_with), plain, None));
    let case = format!("{name}: whole entry");
    report.rows.push(Row::beside(case, "bytes", dictionary(entries_with), zstd(entries_without), None));

    let payload = packed(10_000)?;
    let stored = |codec: &Codec| codec.encode_bytes(&new_entry(), &payload);
    let (read_with, read_without) = (stored(&with)?, stored(&without)?);
    let timings = work_in_turns(
        effort,
        vec![
            writes("dictionary", with.clone(), &payload),
            writes("zstd 3", without.clone(), &payload),
            reads("dictionary", with.clone(), read_with),
            reads("zstd 3", without.clone(), read_without),
        ],
    );
    for (at, what) in [(0, "write"), (2, "read")] {
        let (with, without) = (Figure::from(&timings[at]), Figure::from(&timings[at + 1]));
        report.rows.push(Row::beside(format!("{name}: {what}"), "ns", with, without, None));
    }
    Ok(())
}
