//! The program as its users have it: the real binary, in a home of its own.

mod bench;
mod config;
mod copy;
mod dict;
mod documents;
mod entries;
mod inspect;
mod interop;
mod memoize;
mod plugins;
mod program;
mod scaffold;
mod secure;
mod serve;
mod servers;
mod streams;
