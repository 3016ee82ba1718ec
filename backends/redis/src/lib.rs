// Not `forbid`: the line that exports the library names its symbol, which counts as unsafe.
#![deny(unsafe_code)]
//! The Redis backend of cachekit: one server, a cluster or a sentinel group, shared with the other members of the family.
