//! The File backend beside the bare system calls it cannot do without, and beside cachekit-rs.
//!
//! Values of 1 KiB, many callers as in [`callers`](crate::callers). The floor of a get is openat, flock, fstat, read, close; that of a
//! set openat of a new file, write, (fsync,) rename over the old one, close, and with durability `full` an fsync of the
//! directory. Tasks run the floor in place: it has neither pool nor future to pay for.

mod contenders;
mod floor;

use std::path::Path;

use cachekit_backend_file::Durability;

use crate::callers::{Load, Operation, compare};
use crate::report::Report;
use crate::{Effort, Failure, artifacts};

const LOAD: Load = Load { store: "file", value_bytes: 1024, keys_per_caller: 8 };
const CALLERS: [usize; 3] = [1, 16, 256];

/// Runs the bench in a new directory below `dir`, or below the temporary directory.
pub fn run(effort: Effort, dir: Option<&Path>) -> Result<Report, Failure> {
    let root = match dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let library = artifacts::backend_plugin("file")?;
    let mut report = Report::begin("file");
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_time().build()?;
    report.notes.push(format!("values of {} bytes on {}", LOAD.value_bytes, file_system(root.path())?));
    report.notes.push(format!(
        "tokio multi_thread, {workers} workers; one task per caller, {} keys each",
        LOAD.keys_per_caller
    ));
    report
        .notes
        .push("linked, .so: the backend alone; Cache: get_bytes and set_bytes with L1 off, over the linked one".into());
    report.notes.push("cachekit-rs flushes each file, which is our durability `file`; its get has no modes".into());
    // The goal stays what the project set, also where the file system does not let anybody reach it.
    let least = "with 16 and 256 callers the bare system calls themselves reached only 1.4× and 1.6× of cachekit-rs";
    report.notes.push(format!("set none, goal 2×: {least}; what they reach here is the row `floor none`"));

    for callers in CALLERS {
        let gets = contenders::of_gets(root.path(), &library)?;
        compare(effort, &runtime, LOAD, callers, Operation::Get, &gets, &mut report)?;
    }
    for callers in CALLERS {
        let sets = contenders::of_sets(root.path(), &library)?;
        compare(effort, &runtime, LOAD, callers, Operation::Set, &sets, &mut report)?;
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

/// What survives a power failure, as the rows call it.
fn mode(durability: Durability) -> &'static str {
    match durability {
        Durability::None => "none",
        Durability::File => "file",
        Durability::Full => "full",
    }
}
