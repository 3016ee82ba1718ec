//! Entries of Python's Arrow serializer, to look at: an Arrow IPC file behind its checksum.
//!
//! The table itself is not decoded: the crates that could are larger than everything else here together, and a tool that
//! shows `payload_hex` gives any of them the file.

use serde_json::{Value as Json, json};

use super::bytestorage::checksum;
use super::error::{EnvelopeFault, InteropError};

/// What an IPC file begins and ends with.
const IPC_MAGIC: &[u8] = b"ARROW1";

/// The file behind the checksum, and what it is.
///
/// # Errors
/// [`InteropError::Envelope`] if the checksum does not fit, or what it covers is no IPC file.
pub fn look_at_arrow(payload: &[u8]) -> Result<(Vec<u8>, Json), InteropError> {
    let (sum, file) = payload.split_first_chunk::<8>().ok_or(EnvelopeFault::Structure)?;
    if *sum != checksum(file) {
        return Err(EnvelopeFault::Checksum.into());
    }
    if !file.starts_with(IPC_MAGIC) || !file.ends_with(IPC_MAGIC) {
        return Err(EnvelopeFault::Structure.into());
    }
    Ok((file.to_vec(), json!({ "$t": "opaque", "type": "arrow.ipc.file", "bytes": file.len() })))
}
