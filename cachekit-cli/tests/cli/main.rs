//! The program as its users have it: the real binary, in a home of its own.

mod config;
mod documents;
mod entries;
mod inspect;
mod memoize;
mod plugins;
mod program;
mod serve;
mod streams;
