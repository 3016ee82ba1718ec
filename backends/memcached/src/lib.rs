// Not `forbid`: the line that exports the library names its symbol, which counts as unsafe.
#![deny(unsafe_code)]
//! The Memcached backend of cachekit: several servers placed as the other members of the family place them.
