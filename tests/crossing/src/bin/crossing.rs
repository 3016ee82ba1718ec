#![forbid(unsafe_code)]
//! The calls alone, for a profiler: `crossing WAY OPERATION COUNT`.
//!
//! What is not a call (start, load, the value that a get finds) is the same for every COUNT, so that the difference of two
//! runs is calls and nothing else.

use std::path::PathBuf;
use std::process::ExitCode;

use cachekit_crossing::{Failure, LIBRARY, Operation, Way};

fn usage() -> String {
    let ways = Way::ALL.map(Way::word).join(", ");
    let operations = Operation::ALL.map(Operation::word).join(", ");
    format!(
        "usage: {LIBRARY}=/path/to/libnull_plugin.so crossing WAY OPERATION COUNT\nWAY: {ways}\nOPERATION: {operations}"
    )
}

fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [way, operation, count] = arguments.as_slice() else { return Err(usage().into()) };
    let way = Way::ALL.into_iter().find(|known| known.word() == way).ok_or_else(usage)?;
    let operation = Operation::ALL.into_iter().find(|known| known.word() == operation).ok_or_else(usage)?;
    let count = count.parse().map_err(|_| usage())?;
    let library = std::env::var_os(LIBRARY).map(PathBuf::from).ok_or_else(usage)?;
    let store = way.open(&library)?;
    store.prepare(operation);
    store.repeat(operation, count);
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
