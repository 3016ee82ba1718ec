//! What can be typed after `dict`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum DictCommand {
    /// Make a dictionary of samples: files, or what the namespace holds. Say afterwards what it saves.
    Train(TrainArgs),
    /// Put a dictionary into the store, where readers find it. Caches that write with it do so by themselves.
    Install {
        /// The dictionary.
        file: PathBuf,
    },
    /// List the dictionaries of the store.
    List,
    /// Show a dictionary: a file, or an id that the store has.
    Show {
        /// A file, or eight hex digits.
        dictionary: String,
        /// Write the one of the store to this file.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Files, and directories with files: each file is a sample, as the cache would compress it. Without any, the entries
    /// of the namespace are the samples.
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Size of the dictionary: bytes, or such as 16KiB.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16KiB")]
    pub(crate) max_size: usize,
    /// Write it to this file, for compression.dictionary of the configuration.
    #[arg(long, short, value_name = "FILE", required_unless_present = "install")]
    pub(crate) out: Option<PathBuf>,
    /// Put it into the store.
    #[arg(long)]
    pub(crate) install: bool,
    /// Most samples that are looked at.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

/// `16384`, `16k`, `16K`, `16KiB`: a unit is 1024, because dictionaries are memory.
fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kb" | "kib" => Some(1024),
        _ => None,
    };
    let bytes = digits.parse::<usize>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    bytes.ok_or_else(|| format!("{text:?} is no size such as 16384, 16k, 16KiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_taken_with_units_and_without() {
        for text in ["16384", "16k", "16K", "16KiB", "16384b"] {
            assert_eq!(size(text), Ok(16384), "{text}");
        }
        for wrong in ["", "k", "-1", "1.5k", "16m", "99999999999999999999"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
