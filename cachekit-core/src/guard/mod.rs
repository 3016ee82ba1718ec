//! What stands between the first tier and the second: nothing here knows values, everything here bounds time and load.

pub mod adaptive;
pub mod breaker;
pub mod bulkhead;
pub mod deadline;
pub mod fill_lock;
pub(crate) mod flight;
pub mod retry;
pub mod stack;
