//! Reading what the server sends, with a bound that does not depend on what it claims, and the form of values in JSON.
//!
//! What it protects: memory, and the caller from half a value. Nothing is reserved because a header says so; an answer whose
//! end cannot be told from a broken connection is refused; nothing is decompressed, so a small answer cannot become a large
//! one, and a value that was compressed on the way is not the value that was stored. What kind of content it claims to be
//! is not looked at: a proxy's error page says `text/html` honestly, and a value may be HTML.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cachekit_plugin::Bytes;

use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use reqwest::{Response, StatusCode, Version};
use serde_json::{Map, Value as Json};

use crate::config::JsonConfig;
use crate::error::HttpError;

/// Reserved before anything has arrived, whatever the header says.
const MAX_RESERVED: u64 = 64 << 10;
/// What a JSON object may hold beside the value.
const MAX_BESIDE: u64 = 64 << 10;
/// Of an answer whose body is of no interest this much is read, so that its connection can be used again.
const MAX_DRAINED: u64 = 4 << 10;
/// For this long: for a longer wait a new connection is cheaper.
const DRAIN_TIME: Duration = Duration::from_millis(60);

/// The form of values in bodies.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// The body is the value.
    Raw,
    /// The value stands in a field.
    Json(JsonConfig),
}

impl Form {
    /// Whether the life stands in the body.
    pub(crate) fn has_life(&self) -> bool {
        matches!(self, Self::Json(JsonConfig { ttl: Some(_), .. }))
    }

    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Raw => "application/octet-stream",
            Self::Json(_) => "application/json",
        }
    }

    /// The body that stores `value`.
    pub(crate) fn write(&self, value: Bytes, life: Option<u64>) -> Bytes {
        let Self::Json(fields) = self else { return value };
        let mut object = Map::new();
        object.insert(fields.value.clone(), Json::String(STANDARD.encode(&value)));
        if let (Some(field), Some(life)) = (&fields.ttl, life) {
            object.insert(field.clone(), life.into());
        }
        Json::Object(object).to_string().into()
    }

    /// The value of an answer, of at most `max` bytes.
    pub(crate) async fn read(&self, response: Response, max: u64) -> Result<Bytes, HttpError> {
        let Self::Json(fields) = self else { return whole(response, max, max).await };
        // Four characters for three bytes.
        let body = whole(response, max.div_ceil(3).saturating_mul(4).saturating_add(MAX_BESIDE), max).await?;
        let no_value =
            HttpError::Corrupt("the server answered with something that is no JSON object with the value in base64");
        let Ok(Json::Object(object)) = serde_json::from_slice(&body) else { return Err(no_value) };
        let Some(text) = object.get(&fields.value).and_then(Json::as_str) else { return Err(no_value) };
        let Ok(value) = STANDARD.decode(text) else { return Err(no_value) };
        if value.len() as u64 > max { Err(HttpError::AnswerTooLarge { max }) } else { Ok(value.into()) }
    }
}

/// The whole body of an answer, of at most `bound` bytes; `max` is what the error tells.
async fn whole(mut response: Response, bound: u64, max: u64) -> Result<Bytes, HttpError> {
    if [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT].contains(&response.status()) {
        return Ok(Bytes::new());
    }
    let headers = response.headers();
    let is =
        |name, wanted: &[u8]| headers.get_all(name).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(wanted));
    if !is(CONTENT_ENCODING, b"identity") {
        return Err(HttpError::Corrupt("the server answered with an encoding that nobody asked for"));
    }
    // `gzip, chunked` would be unwrapped by half.
    if !is(TRANSFER_ENCODING, b"chunked") {
        return Err(HttpError::Corrupt("the server answered with a transfer encoding that nobody asked for"));
    }
    // HTTP/2 frames its bodies. Where the end of the connection is the end of the body, a cut one looks whole.
    let framed = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    if response.version() < Version::HTTP_2 && !framed {
        return Err(HttpError::Corrupt("the server did not say how long the value is, so a cut one would look whole"));
    }
    let claimed = response.content_length().unwrap_or(0);
    if claimed > bound {
        return Err(HttpError::AnswerTooLarge { max });
    }
    // Copied, because the pieces that arrive are windows into larger buffers, which a cache would keep alive.
    let mut body = Vec::with_capacity(claimed.min(MAX_RESERVED) as usize);
    while let Some(piece) = response.chunk().await.map_err(HttpError::exchange)? {
        if (body.len() + piece.len()) as u64 > bound {
            return Err(HttpError::AnswerTooLarge { max });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_json_stands_in_its_field_with_its_life() {
        let json = Form::Json(JsonConfig { value: "data".into(), ttl: Some("ttl".into()) });
        assert_eq!(json.write(Bytes::from_static(b"\x00\xff"), Some(60)), r#"{"data":"AP8=","ttl":60}"#);
        assert_eq!(json.write(Bytes::new(), None), r#"{"data":""}"#);
        assert_eq!(Form::Raw.write(Bytes::from_static(b"v"), Some(60)), "v");
        assert!(json.has_life() && !Form::Raw.has_life());
    }
}
