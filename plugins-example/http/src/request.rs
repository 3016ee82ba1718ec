//! One request: a step of the plan with a key, a life and a body in it.

use cachekit_plugin::{Bytes, Cx, Key, Limits};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use crate::error::HttpError;
use crate::plan::Step;
use crate::template::Filling;

/// Where W3C traces travel.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What is sent, as often as it has to be.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

impl Request {
    /// `common` are the credentials.
    pub(crate) fn new(
        step: &Step,
        common: &HeaderMap,
        key: &[u8],
        life: Option<u64>,
        body: Option<Bytes>,
    ) -> Result<Self, HttpError> {
        let filling = Filling { key, life };
        let url = step.url.fill(filling).map_err(|_| HttpError::KeyIsStructure)?;
        let mut headers = HeaderMap::with_capacity(step.headers.len() + common.len() + 3);
        // Nothing is decompressed here, so nothing is to arrive compressed.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &step.headers {
            if let Some(value) = value.fill(filling) {
                headers.insert(name, value);
            }
        }
        headers.extend(common.clone());
        // Said also where it is zero: the client library says nothing of an empty body, and servers may insist.
        if body.as_ref().is_some_and(Bytes::is_empty) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(Self { method: step.method.clone(), url, headers, body })
    }

    /// With the caller's trace, if it is one.
    pub(crate) fn with_trace(mut self, cx: &Cx<'_>) -> Self {
        if let Some(trace) = cx.trace.and_then(|trace| HeaderValue::from_str(trace).ok()) {
            self.headers.insert(TRACEPARENT, trace);
        }
        self
    }
}

/// The bytes of a key that this store takes. The engine sends no others; somebody who links this crate might.
pub(crate) fn key_of<'a>(key: Key<'a>, limits: &Limits) -> Result<&'a [u8], HttpError> {
    let bytes = key.as_bytes();
    if bytes.len() as u64 > u64::from(limits.max_key) {
        return Err(HttpError::KeyTooLong { len: bytes.len(), max: limits.max_key });
    }
    if limits.takes_key(bytes) { Ok(bytes) } else { Err(HttpError::KeyBytes) }
}
