#![forbid(unsafe_code)]
//! The long faults: real servers behind a faulty network, operations that are cancelled anywhere, servers that restart,
//! fail over and move their slots, and a checker that knows every value that was ever written.
//!
//! What is asked is one thing: does a read ever return what it must not? A miss is always allowed, an error too; another
//! key's value, a torn one, or one that was replaced before the read began is not. The second question is when the store
//! works again after the fault has gone.
//!
//! `value.rs` makes values that say whose they are, `checker.rs` judges, `load.rs` works, `weather.rs` changes the fault,
//! and each file of `scenario/` is one story.

pub mod checker;
pub mod load;
pub mod random;
pub mod report;
pub mod scenario;
pub mod store;
pub mod value;
pub mod weather;
pub mod worker;
