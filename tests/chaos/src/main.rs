#![forbid(unsafe_code)]
//! `cargo xtask chaos`: the long faults, with progress and figures.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cachekit_chaos::scenario::{ALL, Run, Scenario, Size};
use clap::Parser;
use serde_json::json;

/// The long faults on real servers: values that must not come back, and how long recovery takes.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// Which stories; all of them without a name.
    names: Vec<String>,
    /// The short version that every test run has time for.
    #[arg(long)]
    quick: bool,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
    /// Repeats the choices of a run.
    #[arg(long)]
    seed: Option<u64>,
    /// The program `cachekit`, for the stories about it.
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Says which stories there are.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("worker", rest)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return cachekit_chaos::worker::run(rest);
    }
    let arguments = Arguments::parse();
    if arguments.list {
        for scenario in ALL {
            println!("{:<22} {}", scenario.name, scenario.about);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = arguments.names.iter().find(|name| ALL.iter().all(|known| known.name != **name)) {
        eprintln!("chaos: no story {unknown:?}; --list names them");
        return ExitCode::from(2);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let this = std::env::current_exe().ok();
    let run = Run {
        seed: arguments.seed.unwrap_or(now.as_nanos() as u64 >> 10),
        size: if arguments.quick { Size::QUICK } else { Size::FULL },
        progress: std::io::stderr().is_terminal(),
        program: arguments.program.as_deref(),
        chaos: this.as_deref(),
    };
    eprintln!("seed {}", run.seed);
    let asked =
        |scenario: &&Scenario| arguments.names.is_empty() || arguments.names.iter().any(|name| name == scenario.name);
    let mut reports = Vec::new();
    for scenario in ALL.iter().filter(asked) {
        eprintln!("{}: {}", scenario.name, scenario.about);
        let began = Instant::now();
        let mut report = (scenario.tell)(&run);
        report.time("story", began.elapsed());
        if !arguments.json {
            println!("{report}");
        }
        reports.push(report);
    }
    let ok = reports.iter().all(|report| report.is_ok());
    if arguments.json {
        let stories: Vec<_> = reports.iter().map(|report| report.json()).collect();
        println!("{}", json!({ "ok": ok, "seed": run.seed, "stories": stories }));
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
