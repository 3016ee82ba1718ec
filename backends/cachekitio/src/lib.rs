// Not `forbid`: the line that exports the library names its symbol, which counts as unsafe.
#![deny(unsafe_code)]
//! The cachekit.io backend of cachekit: the HTTP API of the service, or of one's own `cachekit serve`.
