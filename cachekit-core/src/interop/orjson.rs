//! Entries of Python's orjson serializer, to look at: JSON text, behind its checksum where integrity checking is on.

use serde_json::Value as Json;

use super::bytestorage::checksum;
use super::error::{EnvelopeFault, InteropError, Malformed};

/// The JSON text and what it holds. Without a checksum that fits, the whole payload must be JSON.
///
/// # Errors
/// [`InteropError::Envelope`] if there is a checksum and it does not fit, [`InteropError::Malformed`].
pub fn look_at_orjson(payload: &[u8]) -> Result<(Vec<u8>, Json), InteropError> {
    if let Some((sum, text)) = payload.split_first_chunk::<8>()
        && *sum == checksum(text)
    {
        let value = serde_json::from_slice(text).map_err(|_| Malformed::Json)?;
        return Ok((text.to_vec(), value));
    }
    if let Ok(value) = serde_json::from_slice(payload) {
        return Ok((payload.to_vec(), value));
    }
    // Text behind eight bytes that are not its checksum is an entry that was damaged, not another format.
    match payload.get(8..).map(serde_json::from_slice::<Json>) {
        Some(Ok(_)) => Err(EnvelopeFault::Checksum.into()),
        _ => Err(Malformed::Json.into()),
    }
}
