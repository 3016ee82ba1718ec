//! What can be typed after `copy` and `bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// The store to read: a URL as for --backend. It must be able to list its entries.
    #[arg(value_name = "FROM_URL")]
    pub(crate) from: String,
    /// The store to write. Entries that it has under the same keys are replaced.
    #[arg(value_name = "TO_URL")]
    pub(crate) to: String,
    /// Keep the place in this file, and go on from there if it exists. It is removed when everything is copied.
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,
    /// Read and count, write nothing: neither to the target nor to the file of --resume.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Read each entry back from the target and compare.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) verify: bool,
    /// Only wire keys that begin so, such as ck:users:. With --namespace it is that namespace's.
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Life of entries of which the source cannot tell how long they have: 10m, 1h, or seconds. Without it they are
    /// left out.
    #[arg(long, value_name = "TIME", value_parser = super::life)]
    pub(crate) unknown_life: Option<Duration>,
    /// Entries at a time. That many values are in memory.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) batch: u16,
    /// Longest time for one exchange with either store.
    #[arg(long, value_name = "TIME", value_parser = super::life, default_value = "5s")]
    pub(crate) deadline: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What is done.
    #[arg(long, value_name = "WORK", default_value = "mixed")]
    pub(crate) work: Work,
    /// Callers at a time, each waiting for its answer.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) callers: u16,
    /// How long it is measured.
    #[arg(long, value_name = "TIME", value_parser = super::life, default_value = "10s")]
    pub(crate) duration: Duration,
    /// How long it runs before that.
    #[arg(long, value_name = "TIME", value_parser = super::life, default_value = "1s")]
    pub(crate) warm_up: Duration,
    /// Bytes of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub(crate) value_size: usize,
    /// Keys that are used. They are written before, and removed at the end.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) keys: u32,
    /// Share of reads in mixed work, percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 90, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) reads: u8,
    /// Longest time for one operation; one that takes longer is an error.
    #[arg(long, value_name = "TIME", value_parser = super::life, default_value = "1s")]
    pub(crate) deadline: Duration,
}

/// What callers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Read.
    Get,
    /// Write.
    Set,
    /// Both, in the share of --reads.
    Mixed,
}
