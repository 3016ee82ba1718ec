#![forbid(unsafe_code)]
//! The command line: `benches-compare <codec|crossing|file|l1|l2|outage|overload|secure|stall> [--json] [--quick]`.

use std::path::PathBuf;
use std::process::ExitCode;

use benches_compare::{Effort, Failure, codec, crossing, file, l1, l2, secure};

const USAGE: &str = "\
usage: benches-compare codec    [--json] [--quick]
       benches-compare crossing [--json] [--quick]
       benches-compare file     [--json] [--quick] [--dir DIR]     DIR: on the disk to measure (default: the temporary directory)
       benches-compare l1       [--json] [--quick]
       benches-compare l2       [--json] [--quick] [--only redis|memcached] [--callers COUNT]     with either, gets alone
       benches-compare outage   [--json] [--quick]
       benches-compare overload [--json] [--quick]
       benches-compare secure   [--json] [--quick]
       benches-compare stall    [--json] [--quick]
       benches-compare codec-calls encode|decode WAY COUNT         our calls alone, for a profiler
       benches-compare secure-calls get|set BYTES COUNT            the same
       benches-compare l1-get COUNT                                the public gets alone, for a profiler
       benches-compare l2-get WHO COUNT CALLERS                    the gets of one contender on Redis alone, for a profiler";

/// The flags all benches share.
#[derive(Default)]
struct Flags {
    json: bool,
    quick: bool,
    dir: Option<PathBuf>,
    part: l2::Part,
    words: Vec<String>,
}

fn flags() -> Result<Flags, Failure> {
    let mut flags = Flags::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => flags.json = true,
            "--quick" => flags.quick = true,
            "--dir" => flags.dir = Some(args.next().ok_or("--dir takes a directory")?.into()),
            "--only" => flags.part.store = Some(args.next().ok_or("--only takes a store")?),
            "--callers" => flags.part.callers = Some(args.next().ok_or("--callers takes a number")?.parse()?),
            word if !word.starts_with('-') => flags.words.push(arg),
            unknown => return Err(format!("{unknown}: no such flag").into()),
        }
    }
    Ok(flags)
}

fn run() -> Result<ExitCode, Failure> {
    let flags = flags()?;
    let effort = if flags.quick { Effort::Quick } else { Effort::Full };
    let words: Vec<&str> = flags.words.iter().map(String::as_str).collect();
    let report = match words[..] {
        ["codec"] => codec::run(effort)?,
        ["crossing"] => crossing::run(effort)?,
        ["file"] => file::run(effort, flags.dir.as_deref())?,
        ["l1"] => l1::run(effort)?,
        ["l2"] => l2::run(effort, &flags.part)?,
        ["outage"] => l2::run_outage(effort)?,
        ["overload"] => l2::run_overload(effort)?,
        ["secure"] => secure::run(effort)?,
        ["stall"] => l2::run_stall(effort)?,
        ["codec-calls", operation, way, count] => {
            codec::calls(operation, way, count.parse()?)?;
            return Ok(ExitCode::SUCCESS);
        }
        ["secure-calls", operation, bytes, count] => {
            secure::calls(operation, bytes.parse()?, count.parse()?)?;
            return Ok(ExitCode::SUCCESS);
        }
        ["l1-get", count] => {
            l1::calls(count.parse()?)?;
            return Ok(ExitCode::SUCCESS);
        }
        ["l2-get", who, count, callers] => {
            l2::calls(who, count.parse()?, callers.parse()?)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => return Err(USAGE.into()),
    };
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}
