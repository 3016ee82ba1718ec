#![forbid(unsafe_code)]
//! The cachekit engine.

pub mod clock;
pub mod codec;
pub mod l1;
