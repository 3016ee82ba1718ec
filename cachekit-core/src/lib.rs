#![forbid(unsafe_code)]
//! The cachekit engine.

pub mod clock;
pub mod l1;
