//! What lies between a value and its stored bytes: serializing, compressing, sealing, checking; each beside the library that
//! does it, and the whole beside the sum of its parts.
//!
//! ```text
//! document.rs      values as programs cache them: JSON-like, with names that repeat and contents that do not
//! cipher.rs        AES-256-GCM by our providers, ring and the raw libraries; the price of a nonce; XXH3
//! compression.rs   zstd and LZ4 with contexts that are kept, and without; small values with a dictionary
//! pipeline.rs      encode and decode as the cache calls them, and what their parts take in the same rounds
//! ```

mod cipher;
mod compression;
pub(crate) mod document;
mod pipeline;

use std::sync::Arc;

use cachekit_core::codec::{Codec, Compression, Meta, NewEntry, Sealer, Serializer, Times};
use cachekit_core::crypto::{Keyring, MasterKey, NativeSealer, Provider};

use crate::report::Report;
use crate::{Effort, Failure};

/// Under which everything is stored here.
const WIRE_KEY: &[u8] = b"ck:documents:5f3a9c";
/// A moment; nothing here is older or younger.
const NOW_MS: u64 = 1_700_000_000_000;

/// Runs the bench.
pub fn run(effort: Effort) -> Result<Report, Failure> {
    let mut report = Report::begin("codec");
    let document = document::Document::of(1, document::ORDERS);
    let (packed, json) = (rmp_serde::to_vec_named(&document)?.len(), serde_json::to_string(&document)?.len());
    report.notes.push("time of the processor, in one thread that waits for nothing".into());
    report.notes.push(format!("the document: {json} bytes of JSON, {packed} of MessagePack with its names"));
    report.notes.push(
        "every seal of ours draws its nonce from the operating system; of the peers' only where it says so".into(),
    );
    cipher::run(effort, &mut report)?;
    compression::run(effort, &mut report)?;
    pipeline::run(effort, &mut report, &document)?;
    Ok(report)
}

/// Runs `count` calls of ours and nothing else.
pub fn calls(operation: &str, way: &str, count: u64) -> Result<(), Failure> {
    pipeline::calls(operation, way, count, &document::Document::of(1, document::ORDERS))
}

fn codec(compression: Compression, sealer: Option<Arc<dyn Sealer>>) -> Codec {
    Codec { serializer: Serializer::MessagePack, compression, sealer, ..Codec::default() }
}

fn new_entry() -> NewEntry<'static> {
    let times = Times { created_ms: NOW_MS, expires_ms: NOW_MS + 3_600_000, ..Times::default() };
    NewEntry { wire_key: WIRE_KEY, meta: Meta { times, ..Meta::default() }, tags: &[] }
}

fn sealer(provider: Provider) -> Result<Arc<dyn Sealer>, Failure> {
    let ring = Keyring::new(MasterKey::from_bytes(&[7; 32])?, Vec::new())?;
    Ok(Arc::new(NativeSealer::with_provider(Arc::new(ring), "default", provider)?))
}
