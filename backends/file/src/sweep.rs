//! Removing what killed writers left behind.
//!
//! The family's rule: a name with `.tmp.` in it, not a link, untouched for 60 s. Our own temporaries can be told from a
//! live writer's much sooner, since a live writer holds a lock on its file and the kernel drops that lock with the
//! process: they go after 100 ms, which covers the moment between creating and locking. So the litter of writers that
//! are killed all the time stays within what dies in a tenth of a second. A process id would prove less: it is
//! meaningless across containers and reused within one.

use std::time::Duration;

use rustix::fs::{FileType, OFlags, Stat};

use crate::client::{Handle, Locked};

/// Age at which any temporary is litter.
const FOREIGN_AGE: Duration = Duration::from_secs(60);
/// Age at which one of ours is litter if nobody holds it.
const OWN_AGE: Duration = Duration::from_millis(100);

/// Whether this is the name of a temporary of anybody.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    name.windows(5).any(|window| window == b".tmp.")
}

/// Removes the temporary `name` if its writer is gone.
pub(crate) fn temporary(handle: &Handle, name: &str, now: Duration) {
    let Ok(Some(stat)) = handle.lstat(name) else { return };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return;
    }
    let age = now.saturating_sub(modified(&stat));
    if age > FOREIGN_AGE || (age > OWN_AGE && is_ours(name) && is_unlocked(handle, name)) {
        // Left for the next sweep if it fails.
        let _ = handle.unlink(name);
    }
}

/// When a file was last modified, since the Unix epoch; before it reads zero.
pub(crate) fn modified(stat: &Stat) -> Duration {
    Duration::new(u64::try_from(stat.st_mtime).unwrap_or(0), u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// `{name}.tmp.{pid}.{time_ns}.s{seq}`; the family's other members end in plain digits.
fn is_ours(name: &str) -> bool {
    name.rsplit_once(".s").is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn is_unlocked(handle: &Handle, name: &str) -> bool {
    handle.open(name, OFlags::RDONLY, 0).is_ok_and(|fd| Locked::now(fd, true).is_ok())
}
