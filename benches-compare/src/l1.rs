//! x
use crate::{Effort, Failure, report::Report};
/// x
pub fn run(_: Effort) -> Result<Report, Failure> {
    Ok(Report::begin("l1"))
}
