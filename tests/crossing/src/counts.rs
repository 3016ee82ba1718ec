//! Instructions per call, and what they may be.
//!
//! Valgrind counts a run of 1000 calls and one of 3000; their difference is 2000 calls without start, load and end.

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

use crate::{Failure, LIBRARY, Operation, Way};

const FEW: u64 = 1000;
const MANY: u64 = 3000;

/// The ways that are counted. The blocking host is left out: its calls cross threads, and their number of instructions
/// depends on who waits.
const COUNTED: [Way; 3] = [Way::Linked, Way::Tables, Way::Host];

/// What one call costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Count {
    /// How the store was met.
    pub way: Way,
    /// What was asked.
    pub operation: Operation,
    /// Instructions per call.
    pub instructions: f64,
}

/// What one call may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// How the store is met.
    pub way: Way,
    /// What is asked.
    pub operation: Operation,
    /// Instructions per call more than the same call linked.
    pub above_linked: f64,
}

const fn at_most(way: Way, operation: Operation, above_linked: f64) -> Bound {
    Bound { way, operation, above_linked }
}

/// What the project holds itself to.
pub const BOUNDS: [Bound; 11] = [
    at_most(Way::Tables, Operation::Limits, 10.0),
    at_most(Way::Tables, Operation::Get64, 400.0),
    at_most(Way::Tables, Operation::Get4K, 400.0),
    at_most(Way::Tables, Operation::Get1M, 400.0),
    // The project set no goal for these; they hold what was reached, with a few percent to spare.
    at_most(Way::Tables, Operation::Exists, 50.0),
    at_most(Way::Tables, Operation::Set64, 50.0),
    at_most(Way::Host, Operation::Exists, 1320.0),
    at_most(Way::Host, Operation::Get64, 1700.0),
    at_most(Way::Host, Operation::Get4K, 1700.0),
    at_most(Way::Host, Operation::Get1M, 1700.0),
    at_most(Way::Host, Operation::Set64, 1700.0),
];

/// What is run to count.
#[derive(Debug)]
pub struct Counter {
    /// The program `crossing`, optimised.
    pub program: PathBuf,
    /// The library of `null-plugin`, optimised.
    pub library: PathBuf,
}

impl Counter {
    /// Counts every operation, linked, through the tables and through the host.
    ///
    /// # Errors
    ///
    /// Valgrind is missing, or the program failed below it.
    pub fn count(&self) -> Result<Vec<Count>, Failure> {
        let mut counts = Vec::new();
        for operation in Operation::ALL {
            for way in COUNTED {
                let (few, many) = (self.run(way, operation, FEW)?, self.run(way, operation, MANY)?);
                let instructions = (many as f64 - few as f64) / (MANY - FEW) as f64;
                counts.push(Count { way, operation, instructions });
            }
        }
        Ok(counts)
    }

    /// Instructions of a whole run.
    fn run(&self, way: Way, operation: Operation, calls: u64) -> Result<u64, Failure> {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&self.program);
        valgrind.args([way.word(), operation.word(), &calls.to_string()]).env(LIBRARY, &self.library);
        let output = valgrind.output().map_err(|error| match error.kind() {
            ErrorKind::NotFound => "valgrind is missing; `cargo xtask test` installs it".to_owned(),
            _ => format!("valgrind cannot be run: {error}"),
        })?;
        let text = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("{valgrind:?} ended with {}\n{text}", output.status).into());
        }
        let collected = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
        collected.ok_or_else(|| format!("valgrind counted nothing:\n{text}").into())
    }
}

fn find(counts: &[Count], way: Way, operation: Operation) -> Option<f64> {
    counts.iter().find(|count| (count.way, count.operation) == (way, operation)).map(|count| count.instructions)
}

/// The bounds that do not hold, in words. What was not counted holds nothing.
pub fn misses(counts: &[Count], bounds: &[Bound]) -> Vec<String> {
    let miss = |bound: &Bound| {
        let case = format!("{} by {}", bound.operation.name(), bound.way.name());
        let ours = find(counts, bound.way, bound.operation);
        let Some((ours, linked)) = ours.zip(find(counts, Way::Linked, bound.operation)) else {
            return Some(format!("{case}: not counted"));
        };
        let above = ours - linked;
        // Not `>`: a count that is no number holds no bound either.
        let held = above <= bound.above_linked;
        (!held).then(|| format!("{case}: {above:+.1} instructions, at most {:+} were allowed", bound.above_linked))
    };
    bounds.iter().filter_map(miss).collect()
}

/// The counts for people: a line for each operation, a column for each way, and how far above linked it is.
pub fn table(counts: &[Count]) -> String {
    let mut table = format!("{:<16}", "instr per call");
    let mut line = |cells: std::fmt::Arguments<'_>| table.write_fmt(cells).unwrap_or(());
    for way in COUNTED {
        line(format_args!("{:>22}", way.name()));
    }
    for operation in Operation::ALL {
        line(format_args!("\n{:<16}", operation.name()));
        let linked = find(counts, Way::Linked, operation).unwrap_or(f64::NAN);
        for way in COUNTED {
            let instructions = find(counts, way, operation).unwrap_or(f64::NAN);
            line(format_args!("{instructions:>11.1} ({:>+8.1})", instructions - linked));
        }
    }
    table
}
