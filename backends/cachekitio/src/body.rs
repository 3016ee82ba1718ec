//! Reading what the service sends, with a bound that does not depend on what it claims.
//!
//! What it protects: memory, and the caller from half a value. Nothing is reserved because a header says so; an answer whose
//! end cannot be told from a broken connection is refused; a value that was compressed on the way is not the value that
//! was stored. Time is bounded above, by the deadline.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{StatusCode, Version};
use reqwest::Response;

use crate::error::ServiceError;

/// Reserved before anything has arrived, whatever the header says.
const MAX_RESERVED: u64 = 64 << 10;
/// Longest JSON answer: it holds a number, an id or a version.
const MAX_JSON: u64 = 16 << 10;
/// Of an answer whose body is of no interest this much is read, so that its connection can be used again.
const MAX_DRAINED: u64 = 4 << 10;
/// For this long: a server that sends head and body apart and leaves TCP_NODELAY off waits up to 40 ms for the
/// acknowledgement of the head. For a longer wait a new connection is cheaper.
const DRAIN_TIME: Duration = Duration::from_millis(60);

/// What is wanted of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// The stored bytes, at most this many.
    Value { max: u64 },
    /// A small document.
    Json,
    /// The status and the headers.
    Nothing,
}

/// Reads the body of an answer that succeeded.
pub(crate) async fn read(response: Response, want: Want) -> Result<Bytes, ServiceError> {
    match want {
        Want::Value { max } => value(response, max).await,
        Want::Json => whole(response, MAX_JSON)
            .await?
            .ok_or(ServiceError::Corrupt("the service answered with a document that is far too long")),
        Want::Nothing => {
            drain(response).await;
            Ok(Bytes::new())
        }
    }
}

async fn value(response: Response, max: u64) -> Result<Bytes, ServiceError> {
    match response.status() {
        StatusCode::OK => {}
        // As the family reads it: there, and empty.
        StatusCode::NO_CONTENT => return Ok(Bytes::new()),
        // 206 above all: a part of the value.
        _ => return Err(ServiceError::Corrupt("the service answered with something else than the whole value")),
    }
    let headers = response.headers();
    if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ServiceError::Corrupt("the service answered with an encoding that nobody asked for"));
    }
    // `gzip, chunked` would be unwrapped by half.
    if headers.get_all(TRANSFER_ENCODING).iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(ServiceError::Corrupt("the service answered with a transfer encoding that nobody asked for"));
    }
    // HTTP/2 frames its bodies. Where the end of the connection is the end of the body, a cut one looks whole.
    let framed = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    if response.version() < Version::HTTP_2 && !framed {
        return Err(ServiceError::Corrupt(
            "the service did not say how long the value is, so a cut one would look whole",
        ));
    }
    whole(response, max).await?.ok_or(ServiceError::AnswerTooLarge { max })
}

/// The body, or `None` if it is longer than `max`.
async fn whole(mut response: Response, max: u64) -> Result<Option<Bytes>, ServiceError> {
    let claimed = response.content_length().unwrap_or(0);
    if claimed > max {
        return Ok(None);
    }
    // Copied, because the pieces that arrive are windows into larger buffers, which a cache would keep alive.
    let mut body = Vec::with_capacity(claimed.min(MAX_RESERVED) as usize);
    while let Some(piece) = response.chunk().await.map_err(ServiceError::exchange)? {
        if (body.len() + piece.len()) as u64 > max {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body.into()))
}

/// Reads a little more, for the connection's sake alone; what fails here fails nobody.
pub(crate) async fn drain(mut response: Response) {
    if response.content_length().is_some_and(|length| length > MAX_DRAINED) {
        return;
    }
    let _ = tokio::time::timeout(DRAIN_TIME, async {
        let mut left = MAX_DRAINED;
        while let Ok(Some(piece)) = response.chunk().await {
            let Some(less) = left.checked_sub(piece.len() as u64) else { return };
            left = less;
        }
    })
    .await;
}
