//! The File backend beside the bare system calls it cannot do without, and beside cachekit-rs.
//!
//! Values of 1 KiB; each caller is a task of its own with keys of its own. Throughput is what all callers together did in a
//! round, latency the median over their single calls. The floor of a get is openat, flock, fstat, read, close; that of a
//! set openat of a new file, write, (fsync,) rename over the old one, close, and with durability `full` an fsync of the
//! directory. Tasks run the floor in place: it has neither pool nor future to pay for.

mod contenders;
mod floor;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit_backend_file::Durability;
use tokio::runtime::Runtime;

use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::median;
use crate::{Effort, Failure, artifacts};
use contenders::{Contender, Operation};

/// Bytes of a value.
const VALUE_BYTES: usize = 1024;
/// Keys of one caller.
const KEYS_PER_CALLER: usize = 8;
const CALLERS: [usize; 3] = [1, 16, 256];

/// Runs the bench in a new directory below `dir`, or below the temporary directory.
pub fn run(effort: Effort, dir: Option<&Path>) -> Result<Report, Failure> {
    let root = match dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let library = artifacts::file_plugin()?;
    let mut report = Report::begin("file");
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_time().build()?;
    report.notes.push(format!("values of {VALUE_BYTES} bytes on {}", file_system(root.path())?));
    report
        .notes
        .push(format!("tokio multi_thread, {workers} workers; one task per caller, {KEYS_PER_CALLER} keys each"));
    report
        .notes
        .push("linked, .so: the backend alone; Cache: get_bytes and set_bytes with L1 off, over the linked one".into());
    report.notes.push("cachekit-rs flushes each file, which is our durability `file`; its get has no modes".into());
    // The goal stays what the project set, also where the file system does not let anybody reach it.
    let least = "with 16 and 256 callers the bare system calls themselves reached only 1.4× and 1.6× of cachekit-rs";
    report.notes.push(format!("set none, goal 2×: {least}; what they reach here is the row `floor none`"));

    for callers in CALLERS {
        let gets = Operation::get_contenders(root.path(), &library)?;
        compare(effort, &runtime, callers, Operation::Get, gets, &mut report)?;
    }
    for callers in CALLERS {
        let sets = Operation::set_contenders(root.path(), &library)?;
        compare(effort, &runtime, callers, Operation::Set, sets, &mut report)?;
    }
    Ok(report)
}

fn file_system(dir: &Path) -> Result<String, Failure> {
    let kind = rustix::fs::statfs(dir)?.f_type as u64;
    let known = [
        (0xef53, "ext4"),
        (0x0102_1994, "tmpfs"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x794c_7630, "overlayfs"),
    ];
    let name = known.iter().find(|(number, _)| *number == kind).map(|(_, name)| (*name).to_owned());
    Ok(name.unwrap_or_else(|| format!("file system {kind:#x}")))
}

/// What a contender did in its rounds.
#[derive(Default)]
struct Rounds {
    per_second: Vec<f64>,
    latency_us: Vec<f64>,
}

impl Rounds {
    fn throughput(&mut self, name: &str) -> Figure {
        self.per_second.sort_by(f64::total_cmp);
        Figure { name: name.into(), value: median(&self.per_second), best: self.per_second.last().copied() }
    }

    fn latency(&mut self, name: &str) -> Figure {
        self.latency_us.sort_by(f64::total_cmp);
        Figure { name: name.into(), value: median(&self.latency_us), best: self.latency_us.first().copied() }
    }
}

fn compare(
    effort: Effort,
    runtime: &Runtime,
    callers: usize,
    operation: Operation,
    contenders: Vec<Contender>,
    report: &mut Report,
) -> Result<(), Failure> {
    let (rounds, length) = match effort {
        Effort::Quick => (3, Duration::from_millis(60)),
        Effort::Full => (9, Duration::from_millis(250)),
    };
    let mut found: Vec<Rounds> = contenders.iter().map(|_| Rounds::default()).collect();
    let value: Arc<[u8]> = (0..VALUE_BYTES).map(|at| b'a' + (at % 26) as u8).collect::<Vec<_>>().into();
    for contender in &contenders {
        runtime.block_on(async {
            for key in keys(callers).iter().flatten() {
                contender.store.set(key, &value).await;
            }
        });
    }
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let at = if round % 2 == 0 { turn } else { contenders.len() - 1 - turn };
            let (per_second, latency_us) = one_round(runtime, callers, operation, &contenders[at], &value, length)?;
            found[at].per_second.push(per_second);
            found[at].latency_us.push(latency_us);
        }
    }
    let mut throughput = HashMap::new();
    let mut latency = HashMap::new();
    for (contender, rounds) in contenders.iter().zip(&mut found) {
        throughput.insert(contender.name, rounds.throughput(contender.name));
        latency.insert(contender.name, rounds.latency(contender.name));
    }
    let name = operation.name();
    let case = if callers == 1 { format!("{name}, 1 caller") } else { format!("{name}, {callers} callers") };
    for contender in &contenders {
        for (peer, at_least) in &contender.beside {
            let (ours, theirs) = (throughput[contender.name].clone(), throughput[peer].clone());
            report.rows.push(Row::beside(&*case, "op/s", ours, theirs, at_least.map(Goal::RatioAtLeast)));
        }
        let Some((floor, ceiling)) = contender.floor else { continue };
        let throughputs = (throughput[contender.name].clone(), throughput[floor].clone());
        report.rows.push(Row::beside(&*case, "op/s", throughputs.0, throughputs.1, None));
        // What one call costs can be compared while nobody queues.
        if callers == 1 {
            let (ours, floor) = (latency[contender.name].clone(), latency[floor].clone());
            report.rows.push(Row::beside(
                format!("{case}, latency"),
                "µs",
                ours,
                floor,
                Some(Goal::RatioAtMost(ceiling)),
            ));
        }
    }
    Ok(())
}

fn keys(callers: usize) -> Vec<Vec<String>> {
    let of_caller =
        |caller| (0..KEYS_PER_CALLER).map(|n| format!("caller-{caller:04}-key-{n:02}-of-usual-length")).collect();
    (0..callers).map(of_caller).collect()
}

/// Operations per second of all callers, and the median of single calls in microseconds.
fn one_round(
    runtime: &Runtime,
    callers: usize,
    operation: Operation,
    contender: &Contender,
    value: &Arc<[u8]>,
    length: Duration,
) -> Result<(f64, f64), Failure> {
    let begun = Instant::now();
    let tasks: Vec<_> = keys(callers)
        .into_iter()
        .map(|keys| {
            let (store, value) = (Arc::clone(&contender.store), Arc::clone(value));
            runtime.spawn(async move {
                let mut latencies = Vec::new();
                let mut before = Instant::now();
                while before.duration_since(begun) < length {
                    let key = &keys[latencies.len() % keys.len()];
                    match operation {
                        Operation::Get => assert_eq!(store.get(key).await, VALUE_BYTES),
                        Operation::Set => store.set(key, &value).await,
                    }
                    let after = Instant::now();
                    latencies.push(after.duration_since(before).as_secs_f64() * 1e6);
                    // A call that never waits would keep the worker to its own task.
                    tokio::task::consume_budget().await;
                    before = Instant::now();
                }
                (latencies, before)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    let mut ended = begun;
    for task in tasks {
        let (of_caller, end) = runtime.block_on(task)?;
        latencies.extend(of_caller);
        ended = ended.max(end);
    }
    let elapsed = ended.duration_since(begun).as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    Ok((latencies.len() as f64 / elapsed, median(&latencies)))
}

/// What survives a power failure, as the rows call it.
fn mode(durability: Durability) -> &'static str {
    match durability {
        Durability::None => "none",
        Durability::File => "file",
        Durability::Full => "full",
    }
}
