//! What a call into a plugin costs beside the same store linked.
//!
//! One source (`null-plugin`) is met in four ways: linked behind `dyn Backend`; through the tables of the C ABI alone; and
//! through `cachekit-host`, which owns requests, judges answers and counts panics, over the polled and over the blocking
//! tables. The first difference is the price of the contract, the others that of the host around it. Calls and ways
//! are those of `tests/crossing`, which counts their instructions.

use std::path::Path;
use std::time::Instant;

use cachekit_crossing::{Operation, Way};
use cachekit_host::{Plugin, Policy, Sha256};
use cachekit_plugin::HostServices;

use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{Contender, Timing, median, take_turns};
use crate::{Effort, Failure, artifacts};

/// Runs the bench.
pub fn run(effort: Effort) -> Result<Report, Failure> {
    let library = artifacts::null_plugin()?;
    let mut report = Report::begin("crossing");
    let sha256 = Sha256::of(&std::fs::read(&library)?);
    report.notes.push(format!("the library: {} bytes, sha256 {sha256}", std::fs::metadata(&library)?.len()));
    report.notes.push("linked: &dyn Backend, its ready future polled once; C ABI: the tables without a host".into());
    report.notes.push("set: the caller has borrowed bytes, and whoever keeps them copies them".into());
    for operation in Operation::ALL {
        let ways: &[Way] = match operation {
            // A hop to a thread and back: thousands of times the operation, so once is enough.
            Operation::Get64 => &[Way::Linked, Way::Tables, Way::Host, Way::HostBlocking],
            _ => &[Way::Linked, Way::Tables, Way::Host],
        };
        let stores = ways.iter().map(|way| way.open(&library)).collect::<Result<Vec<_>, _>>()?;
        stores.iter().for_each(|store| store.prepare(operation));
        let contenders = ways.iter().zip(&stores);
        let contenders =
            contenders.map(|(way, store)| Contender::new(way.name(), move |count| store.repeat(operation, count)));
        let timings = take_turns(effort, contenders.collect());
        report.rows.extend(rows(operation, &timings));
    }
    load(effort, &library, &mut report)?;
    Ok(report)
}

fn rows(operation: Operation, timings: &[Timing]) -> Vec<Row> {
    let linked = Figure::from(&timings[0]);
    let beside = |timing: &Timing, goal| Row::beside(operation.name(), "ns", timing.into(), linked.clone(), goal);
    let goal = match operation {
        Operation::Get64 => Some(Goal::RatioAtMost(1.6)),
        Operation::Set64 => Some(Goal::RatioAtMost(1.25)),
        Operation::Get1M => Some(Goal::AtMost(150.0)),
        // Their bounds are in instructions: see `tests/crossing`.
        Operation::Limits | Operation::Exists | Operation::Get4K => None,
    };
    // The ready value of the polled form, by the host: what the engine waits for.
    let host_goal = (operation == Operation::Get64).then_some(Goal::AtMost(200.0));
    let mut rows = vec![beside(&timings[1], goal), beside(&timings[2], host_goal)];
    rows.extend(timings.get(3).map(|blocking| beside(blocking, None)));
    rows
}

/// From a path to a working instance, with everything in the page cache. A file that was loaded before is not loaded
/// again, so each load gets a copy of its own.
fn load(effort: Effort, library: &Path, report: &mut Report) -> Result<(), Failure> {
    let loads = match effort {
        Effort::Quick => 9,
        Effort::Full => 41,
    };
    // Beside the library: a directory that others may write, such as the temporary one, is refused by the host.
    let copies = tempfile::tempdir_in(library.parent().ok_or("a library without a directory")?)?;
    let open = |path: &Path| -> Result<f64, Failure> {
        let begun = Instant::now();
        let plugin = Plugin::open(path, &Policy::default())?;
        let instance = plugin.create(b"", HostServices::none())?;
        let elapsed = begun.elapsed();
        drop(instance);
        Ok(elapsed.as_secs_f64() * 1e3)
    };
    let (mut fresh, mut again) = (Vec::new(), Vec::new());
    for copy in 0..loads {
        let path = copies.path().join(format!("libnull_{copy}.so"));
        std::fs::copy(library, &path)?;
        fresh.push(open(&path)?);
        again.push(open(&path)?);
    }
    let mut row = |case: &str, mut ms: Vec<f64>, at_most| {
        ms.sort_by(f64::total_cmp);
        let figure = Figure { name: "host".into(), value: median(&ms), best: ms.first().copied() };
        report.rows.push(Row::alone(case, "ms", figure, at_most));
    };
    row("load: checks, dlopen, layouts, instance", fresh, Some(1.0));
    row("another instance of a loaded file", again, None);
    Ok(())
}
