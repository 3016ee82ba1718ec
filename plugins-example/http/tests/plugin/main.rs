//! This plugin, linked, against an independent server and against servers that lie.

mod conformance;
mod lies;
mod linked;
mod peer;
mod readme;
mod scripted;
mod trouble;
mod wire;
