//! Removing what killed writers left behind.
//!
//! The family's rule: a temporary, not a link, untouched for 60 s. What a temporary is, is read strictly here: a name that a
//! writer of the family makes, and not any name with `.tmp.` in it, because the directory may be one that was named by
//! mistake, and `thesis.tmp.docx` is somebody's work. Our own temporaries can be told from a
//! live writer's much sooner, since a live writer holds a lock on its file and the kernel drops that lock with the
//! process: they go after 100 ms, which covers the moment between creating and locking. So the litter of writers that
//! are killed all the time stays within what dies in a tenth of a second. A process id would prove less: it is
//! meaningless across containers and reused within one.

use std::time::Duration;

use rustix::fs::{FileType, OFlags, Stat};

use crate::client::{Handle, Locked};
use crate::entry::Name;

/// Age at which any temporary is litter.
const FOREIGN_AGE: Duration = Duration::from_secs(60);
/// Age at which one of ours is litter if nobody holds it.
const OWN_AGE: Duration = Duration::from_millis(100);

/// Whose temporary a file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Temporary {
    /// `{name}.tmp.{pid}.{time_ns}.s{seq}`
    Ours,
    /// `{name}.tmp.{pid}.{time_ns}` as Python writes it, `{name}.tmp.{pid}.{time_ns}.{seq}` as `cachekit-rs` does.
    Familys,
}

impl Temporary {
    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        fn is_number(part: &str) -> bool {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
        }
        let (entry, rest) = std::str::from_utf8(name).ok()?.split_once(".tmp.")?;
        Name::parse(entry.as_bytes())?;
        let mut parts = rest.split('.');
        let (writer, last) = ([parts.next()?, parts.next()?], parts.next());
        if !writer.into_iter().all(is_number) || parts.next().is_some() {
            return None;
        }
        match last {
            None => Some(Self::Familys),
            Some(sequence) if is_number(sequence) => Some(Self::Familys),
            Some(sequence) => sequence.strip_prefix('s').is_some_and(is_number).then_some(Self::Ours),
        }
    }
}

/// Removes the temporary `name` if its writer is gone.
pub(crate) fn temporary(handle: &Handle, whose: Temporary, name: &str, now: Duration) {
    let Ok(Some(stat)) = handle.lstat(name) else { return };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return;
    }
    let age = now.saturating_sub(modified(&stat));
    if age > FOREIGN_AGE || (age > OWN_AGE && whose == Temporary::Ours && is_unlocked(handle, name)) {
        // Left for the next sweep if it fails.
        let _ = handle.unlink(name);
    }
}

/// When a file was last modified, since the Unix epoch; before it reads zero.
pub(crate) fn modified(stat: &Stat) -> Duration {
    Duration::new(u64::try_from(stat.st_mtime).unwrap_or(0), u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

fn is_unlocked(handle: &Handle, name: &str) -> bool {
    handle.open(name, OFlags::RDONLY, 0).is_ok_and(|fd| Locked::now(fd, true).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_writer_of_the_family_makes_are_temporaries() {
        let entry = "91c0925c4d980fcf491f0a60b5093185";
        let whose = |rest: &str| Temporary::parse(format!("{entry}{rest}").as_bytes());
        assert_eq!(whose(".tmp.999999.1764700000250000000.s7"), Some(Temporary::Ours));
        assert_eq!(whose(".tmp.999999.1764700000250000000"), Some(Temporary::Familys));
        assert_eq!(whose(".tmp.999999.1764700000250000000.7"), Some(Temporary::Familys));
        for rest in ["", ".tmp", ".tmp.", ".tmp.1", ".tmp.1.", ".tmp.1.2.", ".tmp.1.2.s", ".tmp.1.2.t3", ".tmp.1.2.3.4"]
        {
            assert_eq!(whose(rest), None, "{rest}");
        }
        for rest in [".tmp.docx", ".tmp.1.pdf", ".tmp.+1.2", ".tmp.1.2.s3.bak", ".tmp.1.2.tmp.3.4", "0.tmp.1.2"] {
            assert_eq!(whose(rest), None, "{rest}");
        }
        for name in ["thesis.tmp.docx", "x.tmp.1.2", ".tmp.1.2", "91C0925C4D980FCF491F0A60B5093185.tmp.1.2"] {
            assert_eq!(Temporary::parse(name.as_bytes()), None, "{name}");
        }
        assert_eq!(Temporary::parse(b"\xff.tmp.1.2"), None);
    }
}
