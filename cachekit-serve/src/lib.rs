#![forbid(unsafe_code)]
//! The cachekit.io HTTP API over any cachekit backend.
