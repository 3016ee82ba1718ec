//! What all operations share: the directory, the limits, the clock and the counters.
//!
//! Everything here may block; the async side (`backend`) decides what runs where.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cachekit_plugin::{Deadline, HostServices, LogLevel};

use crate::account::Account;
use crate::client::{Directory, Terms};
use crate::config::{Durability, FileConfig};
use crate::error::FileError;

/// Time since the Unix epoch. Injected, so that tests tell the time; a wall clock, because expiry is stored and shared.
pub(crate) type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The clock of the system. One that stands before 1970 reads zero.
pub(crate) fn system_clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

pub(crate) struct Store {
    pub(crate) directory: Directory,
    pub(crate) account: Account,
    pub(crate) max_value: u64,
    pub(crate) durability: Durability,
    lock_timeout: Duration,
    clock: Clock,
    host: HostServices,
    last_stamp_ns: AtomicU64,
}

impl Store {
    pub(crate) fn new(config: &FileConfig, host: HostServices, clock: Clock, allow_inline: bool) -> Self {
        Self {
            directory: Directory::new(Terms {
                path: config.dir.clone(),
                dir_mode: config.dir_permissions.0,
                file_mode: config.permissions.0,
                allow_shared: config.allow_shared_dir,
                allow_inline,
            }),
            account: Account::new(config.max_size(), u64::from(config.max_entry_count)),
            max_value: config.max_value(),
            durability: config.durability,
            lock_timeout: Duration::from_secs_f64(config.lock_timeout_seconds),
            clock,
            host,
            last_stamp_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        (self.clock)()
    }

    /// A time for a file's modification time: now, and later than every stamp before it.
    pub(crate) fn stamp(&self) -> Duration {
        let now_ns = u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX / 2);
        let next = |last: u64| Some(now_ns.max(last.saturating_add(1)));
        // The closure never refuses, so both arms carry the value before.
        let last = match self.last_stamp_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(last) | Err(last) => last,
        };
        Duration::from_nanos(now_ns.max(last.saturating_add(1)))
    }

    /// Until when an operation waits for a lock: its own deadline or `lock_timeout_seconds`, whichever is sooner.
    pub(crate) fn lock_deadline(&self, deadline: Deadline) -> Deadline {
        deadline.min(Deadline::after(self.lock_timeout))
    }

    pub(crate) fn warn(&self, message: &str, error: &FileError) {
        self.host.log(LogLevel::Warn, "cachekit.file", message, &[("reason", &error.to_string())]);
    }
}
