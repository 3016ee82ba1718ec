//! What stands between the first tier and the second: nothing here knows values, everything here bounds time and load.

pub mod breaker;
pub mod deadline;
pub mod fill_lock;
pub(crate) mod flight;
