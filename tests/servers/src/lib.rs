#![forbid(unsafe_code)]
//! Real servers, a fault proxy and the Python peer, for tests.
