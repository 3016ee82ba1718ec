//! What a case is: one sentence about every right backend, the powers it is about, and how it can fail.

use std::fmt;
use std::time::Duration;

use cachekit_plugin::{Backend, BackendError, Operation};
use serde::{Deserialize, Serialize};

use crate::subject::Subject;

/// One row of the table.
///
/// A case is an ordinary blocking function: it runs on a thread of its own, drives each future by itself and gives up
/// on one that does not come back, so that it needs no runtime and a hanging backend is a finding like any other.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The claim, as a sentence with underscores. Unique in the table; stays stable between releases.
    pub name: &'static str,
    /// Where it stands in the table.
    pub group: Group,
    /// Powers without which the claim says nothing. Where one is not offered, its absence is checked instead.
    pub needs: &'static [Power],
    /// How long the whole case may take before its thread is abandoned.
    pub time_limit: Duration,
    /// Whether most of that time is waiting for a life to end on the store's own clock, so that such cases can wait together.
    pub waits: bool,
    /// Tries to refute the claim.
    pub run: fn(&Subject) -> Result<(), Failure>,
}

/// What a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Group {
    Contract,
    Limits,
    Concurrency,
    Cancel,
    Deadline,
    Batch,
    Ttl,
    Locks,
    Cas,
    Scan,
    Clear,
    Watch,
    Freshness,
    Config,
    Faults,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Contract => "contract",
            Self::Limits => "limits",
            Self::Concurrency => "concurrency",
            Self::Cancel => "cancel",
            Self::Deadline => "deadline",
            Self::Batch => "batch",
            Self::Ttl => "ttl",
            Self::Locks => "locks",
            Self::Cas => "cas",
            Self::Scan => "scan",
            Self::Clear => "clear",
            Self::Watch => "watch",
            Self::Freshness => "freshness",
            Self::Config => "config",
            Self::Faults => "faults",
        })
    }
}

/// An optional power of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is the method of the same name")]
pub enum Power {
    Batch,
    Ttl,
    Locks,
    Cas,
    Scan,
    Clear,
    Watch,
    Freshness,
}

impl Power {
    /// Every power there is.
    pub const ALL: [Self; 8] =
        [Self::Batch, Self::Ttl, Self::Locks, Self::Cas, Self::Scan, Self::Clear, Self::Watch, Self::Freshness];

    /// Whether `backend` offers it: found by asking, never declared beside.
    pub fn is_offered_by(self, backend: &dyn Backend) -> bool {
        match self {
            Self::Batch => backend.batch().is_some(),
            Self::Ttl => backend.ttl().is_some(),
            Self::Locks => backend.locks().is_some(),
            Self::Cas => backend.cas().is_some(),
            Self::Scan => backend.scan().is_some(),
            Self::Clear => backend.clear().is_some(),
            Self::Watch => backend.watch().is_some(),
            Self::Freshness => backend.freshness().is_some(),
        }
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batch => "batch",
            Self::Ttl => "ttl",
            Self::Locks => "locks",
            Self::Cas => "cas",
            Self::Scan => "scan",
            Self::Clear => "clear",
            Self::Watch => "watch",
            Self::Freshness => "freshness",
        })
    }
}

/// Why a case did not pass.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The claim was refuted.
    #[error("{0}")]
    Refuted(String),
    /// An operation that has to succeed did not.
    #[error("an operation that has to succeed did not: {0}")]
    Refused(#[from] BackendError),
    /// An operation did not come back long after its deadline.
    #[error("{operation} had not returned {waited:?} after it began, long past its deadline")]
    Hung {
        /// What was attempted.
        operation: Operation,
        /// Patience of the kit.
        waited: Duration,
    },
    /// The claim could not be put to this store. No failure, but shown in the report.
    #[error("not asked: {0}")]
    NotAsked(String),
}

/// Refutes the claim unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            return Err($crate::case::Failure::Refuted(format!($($reason)+)));
        }
    };
}

/// A row of the table whose name is the name of its function: group, name, powers, limit in seconds, and whether it waits.
macro_rules! case {
    ($group:ident, $run:ident) => { case!($group, $run, []) };
    ($group:ident, $run:ident, [$($power:ident),*]) => { case!($group, $run, [$($power),*], 30) };
    ($group:ident, $run:ident, [$($power:ident),*], $seconds:literal) => {
        case!(@ $group, $run, [$($power),*], $seconds, false)
    };
    ($group:ident, $run:ident, [$($power:ident),*], $seconds:literal, waits) => {
        case!(@ $group, $run, [$($power),*], $seconds, true)
    };
    (@ $group:ident, $run:ident, [$($power:ident),*], $seconds:literal, $waits:literal) => {
        $crate::case::Case {
            name: stringify!($run),
            group: $crate::case::Group::$group,
            needs: &[$($crate::case::Power::$power),*],
            time_limit: std::time::Duration::from_secs($seconds),
            waits: $waits,
            run: $run,
        }
    };
}

pub(crate) use {case, ensure};
