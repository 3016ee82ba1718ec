//! x
use crate::{Effort, Failure, report::Report};
use std::path::Path;
/// x
pub fn run(_: Effort, _: Option<&Path>) -> Result<Report, Failure> {
    Ok(Report::begin("file"))
}
