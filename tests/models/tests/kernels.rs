//! Every kernel, sound and broken: see `src/lib.rs`.

// The copies hold more than their properties use, and their callers are elsewhere.
#![allow(dead_code, unused, unreachable_pub, missing_docs, clippy::duplicate_mod)]

macro_rules! kernels {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
        })*
    };
}

kernels!(breaker, bulkhead, generations, slack);

/// What the kernels know of the engine, under the names they know it by.
mod clock {
    pub(crate) use cachekit_core::clock::Clock;
}
