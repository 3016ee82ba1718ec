//! What became of each entry that was listed.

use std::collections::BTreeMap;

use cachekit_plugin::BackendError;
use serde_json::{Value as Json, json};

/// Why an entry was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// Outside the prefix that was asked for: not counted at all.
    Elsewhere,
    /// Its end came between the listing and the reading. Nothing is lost by that.
    Gone,
    /// A lease of somebody, which means nothing elsewhere.
    Lease,
    /// Listed by an id alone, and the bytes do not say their key.
    Foreign,
    /// The bytes say that they belong to another key.
    Misplaced,
    /// The target does not take the key.
    Key,
    /// The target does not take a value of this size.
    TooLarge,
    /// The source cannot tell how long it has, and no life was given for such entries.
    UnknownLife,
    /// The target's entries carry the epoch of their namespace, and this one cannot be given it: it is sealed, or damaged.
    Unstamped,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::Elsewhere => "elsewhere",
            Self::Gone => "gone",
            Self::Lease => "lease",
            Self::Foreign => "foreign",
            Self::Misplaced => "misplaced",
            Self::Key => "key_not_taken",
            Self::TooLarge => "too_large",
            Self::UnknownLife => "unknown_life",
            Self::Unstamped => "sealed_or_damaged",
        }
    }

    /// Whether the target lacks something by it.
    const fn leaves_a_gap(self) -> bool {
        !matches!(self, Self::Elsewhere | Self::Gone | Self::Lease)
    }
}

/// The counts of a run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) listed: u64,
    copied: u64,
    bytes: u64,
    /// Lives that the target cut to its longest.
    pub(super) shortened: u64,
    pub(super) verified: u64,
    pub(super) differ: u64,
    /// Not in the target any more, and their life may have ended on the way.
    pub(super) vanished: u64,
    /// Not in the target although their life goes on: it dropped them, or never had them.
    pub(super) lost: u64,
    left_out: BTreeMap<Reason, u64>,
    failed: BTreeMap<&'static str, u64>,
    last_error: Option<BackendError>,
}

impl Tally {
    pub(super) fn copy(&mut self, bytes: usize) {
        self.copied += 1;
        self.bytes += bytes as u64;
    }

    pub(super) fn leave(&mut self, reason: Reason) {
        *self.left_out.entry(reason).or_default() += 1;
    }

    pub(super) fn fail(&mut self, error: BackendError) {
        *self.failed.entry(error.kind().as_str()).or_default() += 1;
        self.last_error = Some(error);
    }

    /// Entries that failed, came out different, or are not there.
    pub(super) fn failed(&self) -> u64 {
        self.failed.values().sum::<u64>() + self.differ + self.lost
    }

    /// Entries that the target now lacks although nothing failed.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.iter().filter(|(reason, _)| reason.leaves_a_gap()).map(|(_, count)| count).sum()
    }

    pub(super) fn take_last_error(&mut self) -> Option<BackendError> {
        self.last_error.take()
    }

    pub(super) fn line(&self) -> String {
        let skipped: u64 = self.left_out.values().sum();
        format!("copied {}, left out {skipped}, failed {}", self.copied, self.failed())
    }

    pub(super) fn document(&self) -> Json {
        let left_out: BTreeMap<_, _> = self.left_out.iter().map(|(reason, count)| (reason.name(), count)).collect();
        json!({
            "listed": self.listed,
            "copied": self.copied,
            "bytes": self.bytes,
            "lives_shortened": self.shortened,
            "left_out": left_out,
            "failed": self.failed,
            "verified": self.verified,
            "different": self.differ,
            "vanished": self.vanished,
            "lost": self.lost,
        })
    }

    pub(super) fn text(&self, what: &str, verify: bool) -> String {
        let mut text = format!("{} entries of {} {what}, {} bytes", self.copied, self.listed, self.bytes);
        if self.shortened > 0 {
            text += &format!("\nlives cut to the target's longest: {}", self.shortened);
        }
        for (reason, count) in &self.left_out {
            text += &format!("\nleft out ({}): {count}", reason.name());
        }
        for (kind, count) in &self.failed {
            text += &format!("\nfailed ({kind}): {count}");
        }
        if verify {
            let Self { verified, differ, vanished, lost, .. } = self;
            text += &format!("\nread back: {verified} same, {differ} different, {vanished} ended, {lost} lost");
        }
        text
    }
}
