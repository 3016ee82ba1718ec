//! L1 on disk, so that a process begins warm: [`Cache::save_snapshot`] and [`Cache::load_snapshot`].
//!
//! ```text
//! "CKL1SNAP" | version, 4 | saved at, unix ms, 8 |
//! per entry:  key length, 4 | stored length, 4 | L1 end, unix ms (0: none), 8 | wire key | stored bytes |
//! end:        u32::MAX, 4 | number of entries, 8 | XXH3 of everything before, 8 |                    all little endian
//! ```
//! A file is whole or it is nothing: it is written beside its place, synced, and renamed over it, so that a process that is killed
//! in between leaves the older one. What is read is trusted with nothing. Its sum is checked before its first entry is looked at, its
//! size is bounded by what L1 may hold, and each entry is opened as if it came from the store, which checks its key and its own
//! sum or seal. Whatever is wrong with a file makes a cold start and a counter, never an error that ends a program.
//!
//! No promise gets longer by the way over the disk. An entry keeps the end it had in L1, measured by the wall clock and by what it
//! had left when it was saved, whichever is less; what a store vouched for by telling of changes has the cap from the moment it
//! was saved, because nobody tells of changes while the process is down. Stored bytes are written as L1 has them: sealed entries are
//! ciphertext here too. Kept are the entries of namespaces in the native envelope alone; epochs are not, because to believe in an old one is to
//! serve what was invalidated.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::{Cache, Entry};
use crate::codec::Freshness;
use crate::key::{Namespace, PREFIX};

const MAGIC: &[u8; 8] = b"CKL1SNAP";
const VERSION: u32 = 1;
const END: u32 = u32::MAX;
const HEAD: u64 = 20;
const TAIL: u64 = 20;

/// Why a snapshot could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file system refused.
    #[error("cannot write the snapshot {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another snapshot of this path is being written.
    #[error("another snapshot is just being written to {}", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// The cache has been closed.
    #[error("the cache is closed")]
    Closed,
}

/// Why a snapshot was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unusable {
    Missing,
    Unreadable,
    Foreign,
    Version,
    TooLarge,
    Corrupt,
}

impl Cache {
    /// Writes what L1 holds to `path`; returns how many entries. Blocks on the disk: in an asynchronous program it belongs on
    /// a thread for such work. The file is readable by its owner alone.
    ///
    /// # Errors
    /// [`SnapshotError`]; whatever stood at `path` stands there still. The one exception: if the directory cannot be synced in
    /// the end, the new one is there, and may not outlast a loss of power.
    pub fn save_snapshot(&self, path: impl AsRef<Path>) -> Result<u64, SnapshotError> {
        if self.check_open().is_err() {
            return Err(SnapshotError::Closed);
        }
        self.save_to(path.as_ref(), open_private)
    }

    /// The same, whether or not the cache is open. `open` is how the file beside is opened.
    pub(super) fn save_to(&self, path: &Path, open: impl Fn(&Path) -> io::Result<File>) -> Result<u64, SnapshotError> {
        let failed = |source| SnapshotError::Io { path: path.into(), source };
        let beside = beside(path).map_err(failed)?;
        let Some(file) = take(&beside, open).map_err(failed)? else {
            return Err(SnapshotError::Busy { path: path.into() });
        };
        let written = file.set_len(0).and_then(|()| self.write_snapshot(&file));
        let renamed = written.and_then(|entries| {
            file.sync_all()?;
            fs::rename(&beside, path)?;
            Ok(entries)
        });
        let entries = renamed.map_err(|source| {
            // Ours still: nobody else takes this name while its file is locked.
            let _ = fs::remove_file(&beside);
            failed(source)
        })?;
        sync_directory(path).map_err(failed)?;
        self.near.counters.snapshots_saved.add();
        Ok(entries)
    }

    fn write_snapshot(&self, file: &File) -> io::Result<u64> {
        let near = &*self.near;
        let (now_ms, coarse_ms) = (near.clock.unix_ms(), near.clock.coarse_ms());
        let cap_ms = self.cap_ms();
        let mut out = Summed::new(BufWriter::with_capacity(1 << 16, file));
        out.put(MAGIC)?;
        out.put(&VERSION.to_le_bytes())?;
        out.put(&now_ms.to_le_bytes())?;
        let mut entries = 0_u64;
        for (wire_key, epoch, hit) in near.l1.walk() {
            let Some(namespace) = namespace_of(&wire_key) else { continue };
            let slot = near.writes.slot(&namespace);
            let kept = epoch.plain();
            if kept != near.writes.epoch(slot) {
                continue;
            }
            // Above a store to its last fresh moment: beyond it, an entry is served only after a look at the store.
            let end_ms = if self.engine.tier.is_some() { hit.fresh_until_ms() } else { hit.expires_at_ms() };
            let left_ms = match end_ms {
                u64::MAX => u64::MAX,
                end => end.saturating_sub(coarse_ms),
            };
            let left_ms = if epoch.is_vouched() { left_ms.min(cap_ms) } else { left_ms };
            let (Ok(key_len), Ok(stored_len)) = (u32::try_from(wire_key.len()), u32::try_from(hit.stored().len()))
            else {
                continue;
            };
            if left_ms == 0 || key_len == END {
                continue;
            }
            let end_ms = if left_ms == u64::MAX { 0 } else { now_ms.saturating_add(left_ms) };
            out.put(&key_len.to_le_bytes())?;
            out.put(&stored_len.to_le_bytes())?;
            out.put(&end_ms.to_le_bytes())?;
            out.put(&wire_key)?;
            out.put(hit.stored())?;
            entries += 1;
        }
        out.put(&END.to_le_bytes())?;
        out.put(&entries.to_le_bytes())?;
        out.finish()?;
        Ok(entries)
    }

    /// Takes into L1 what a snapshot holds and what is not over; returns how many entries. A file that is missing, damaged, of a
    /// later version or of something else is a cold start. Blocks on the disk.
    ///
    /// At best before the cache is used. Later it takes in less: nothing of a key that this process has written or deleted,
    /// or was told of, since the cache was built, and nothing of a namespace that was cleared. Stripes of keys
    /// (4096) and of namespaces (256) share that memory.
    pub fn load_snapshot(&self, path: impl AsRef<Path>) -> u64 {
        match self.read_snapshot(path.as_ref()) {
            Ok(entries) => {
                self.near.counters.snapshot_restored.add_n(entries);
                entries
            }
            Err(Unusable::Missing) => 0,
            Err(why) => {
                self.near.counters.snapshots_refused.add();
                tracing::warn!(?why, "a snapshot of the first tier cannot be used: the cache begins cold");
                0
            }
        }
    }

    fn read_snapshot(&self, path: &Path) -> Result<u64, Unusable> {
        if !self.near.settings.use_l1 || self.check_open().is_err() {
            return Ok(0);
        }
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unusable::Missing,
            _ => Unusable::Unreadable,
        })?;
        let meta = file.metadata().map_err(|_| Unusable::Unreadable)?;
        // An entry takes less here than it is charged for in L1, so what is larger is not from such a cache.
        if !meta.is_file() || meta.len() > self.near.l1.max_bytes().saturating_add(HEAD + TAIL) {
            return Err(Unusable::TooLarge);
        }
        let saved_at_ms = check_sum(&file, meta.len())?;
        let mut input = BufReader::with_capacity(1 << 16, &file);
        io::Seek::seek(&mut input, io::SeekFrom::Start(HEAD)).map_err(|_| Unusable::Unreadable)?;
        let (mut left, mut restored, mut told) = (meta.len() - HEAD - TAIL, 0, 0_u64);
        while left > 0 {
            let key_len = number(&mut input)?;
            let stored_len = number(&mut input)?;
            let end_ms = long_number(&mut input)?;
            let size = 16 + u64::from(key_len) + u64::from(stored_len);
            // Checked before memory is taken: the sum proves that nobody damaged the file, not that we wrote it.
            left = left.checked_sub(size).ok_or(Unusable::Corrupt)?;
            let wire_key = bytes(&mut input, key_len)?;
            let stored = bytes(&mut input, stored_len)?;
            told += 1;
            restored += u64::from(self.restore(&wire_key, stored.into(), end_ms, saved_at_ms));
        }
        let complete = number(&mut input)? == END && long_number(&mut input)? == told;
        if complete { Ok(restored) } else { Err(Unusable::Corrupt) }
    }

    /// Keeps an entry under the epoch of today, for what is left of its life and no longer than the cap.
    fn restore(&self, wire_key: &[u8], stored: Bytes, end_ms: u64, saved_at_ms: u64) -> bool {
        let near = &*self.near;
        let Some(namespace) = namespace_of(wire_key) else { return false };
        let key = &wire_key[namespace.prefix().len()..];
        let Ok(wire) = namespace.wire(key) else { return false };
        let now_ms = near.clock.unix_ms();
        let left_ms = match end_ms {
            0 => u64::MAX,
            // A wall clock that was set back gives nobody more than was left.
            end => end.saturating_sub(now_ms).min(end.saturating_sub(saved_at_ms)),
        };
        let opened = match self.engine.codec.open(&stored, wire.as_bytes(), now_ms) {
            Ok(opened) => opened,
            Err(refusal) => {
                // Nothing is answered from here, so it is no error; but somebody may have been at the file.
                if refusal.is_alarm() {
                    self.engine.counters.refuse(refusal);
                }
                return false;
            }
        };
        if left_ms == 0 || opened.freshness() != Freshness::Fresh {
            return false;
        }
        let hash = near.l1.hash(wire_key);
        // Whatever is there was put there since the cache was built, and is newer.
        if near.l1.holds(hash) {
            return false;
        }
        // And what was written, deleted or cleared since then is gone, although nothing is there. Kept below only if that is
        // still so.
        let Some(ticket) = near.writes.untouched(near.writes.slot(&namespace), hash) else { return false };
        let at = super::At { wire, hash };
        let times = opened.meta().times;
        let entry = Entry { stored, times, typed: None, decodes: opened.is_typed() };
        self.insert_for(&at, entry, ticket, left_ms.min(self.cap_ms())).is_some()
    }

    fn cap_ms(&self) -> u64 {
        match self.engine.tier {
            Some(_) => u64::try_from(self.near.settings.l1_ttl_cap.as_millis()).unwrap_or(u64::MAX),
            None => u64::MAX,
        }
    }
}

/// The namespace of a native entry; `None` for epochs and for keys of other formats.
fn namespace_of(wire_key: &[u8]) -> Option<Namespace> {
    let named = wire_key.strip_prefix(PREFIX)?;
    let at = named.iter().position(|byte| *byte == b':')?;
    Namespace::new(std::str::from_utf8(&named[..at]).ok()?).ok()
}

/// Where a snapshot is written before it takes its place: in the same directory, so that renaming is one step.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(".tmp");
    Ok(path.with_file_name(beside))
}

/// How often a file is opened anew that has moved on meanwhile.
const ATTEMPTS: u32 = 16;

/// The file beside, locked and in its place; `None` if somebody else is at it. The lock ends with the process, so one that was
/// killed leaves a file that the next may overwrite.
///
/// Between opening and locking, whoever had it may have finished and renamed it: what is locked then is the snapshot itself, which
/// must not be touched. Once it is locked in its place, it stays there: others lock before they rename.
fn take(beside: &Path, open: impl Fn(&Path) -> io::Result<File>) -> io::Result<Option<File>> {
    for _ in 0..ATTEMPTS {
        let file = open(beside)?;
        match file.try_lock() {
            Ok(()) if stands_at(&file, beside)? => return Ok(Some(file)),
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether `path` is the name of this very file.
#[cfg(unix)]
fn stands_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let mine = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (mine.dev(), mine.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where files have no numbers.
#[cfg(not(unix))]
fn stands_at(_: &File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

pub(super) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // Not through a link that somebody laid there.
        options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    }
    options.open(path)
}

/// A rename lasts once its directory is on disk.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Checks everything but the entries, in one pass that keeps nothing; returns when it was saved.
fn check_sum(file: &File, len: u64) -> Result<u64, Unusable> {
    let mut input = BufReader::with_capacity(1 << 16, file);
    let mut magic = [0; 8];
    input.read_exact(&mut magic).map_err(|_| Unusable::Foreign)?;
    if &magic != MAGIC {
        return Err(Unusable::Foreign);
    }
    let version = number(&mut input)?;
    if version != VERSION {
        return Err(Unusable::Version);
    }
    if len < HEAD + TAIL {
        return Err(Unusable::Corrupt);
    }
    let saved_at_ms = long_number(&mut input)?;
    let mut sum = XxHash3_64::new();
    sum.write_all_of(&magic);
    sum.write_all_of(&version.to_le_bytes());
    sum.write_all_of(&saved_at_ms.to_le_bytes());
    let mut left = len - HEAD - 8;
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let portion = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        input.read_exact(&mut buffer[..portion]).map_err(|_| Unusable::Corrupt)?;
        sum.write_all_of(&buffer[..portion]);
        left -= portion as u64;
    }
    if long_number(&mut input)? == sum.sum() { Ok(saved_at_ms) } else { Err(Unusable::Corrupt) }
}

fn number(input: &mut impl Read) -> Result<u32, Unusable> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes).map_err(|_| Unusable::Corrupt)?;
    Ok(u32::from_le_bytes(bytes))
}

fn long_number(input: &mut impl Read) -> Result<u64, Unusable> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes).map_err(|_| Unusable::Corrupt)?;
    Ok(u64::from_le_bytes(bytes))
}

fn bytes(input: &mut impl Read, len: u32) -> Result<Vec<u8>, Unusable> {
    let mut bytes = vec![0; len as usize];
    input.read_exact(&mut bytes).map_err(|_| Unusable::Corrupt)?;
    Ok(bytes)
}

/// The sum, without the trait `Hasher`, whose `write` may put lengths in between.
trait Sum {
    fn write_all_of(&mut self, bytes: &[u8]);
    fn sum(&self) -> u64;
}

impl Sum for XxHash3_64 {
    fn write_all_of(&mut self, bytes: &[u8]) {
        std::hash::Hasher::write(self, bytes);
    }

    fn sum(&self) -> u64 {
        std::hash::Hasher::finish(self)
    }
}

/// Writes and sums up what it writes.
struct Summed<W: Write> {
    out: W,
    sum: XxHash3_64,
}

impl<W: Write> Summed<W> {
    fn new(out: W) -> Self {
        Self { out, sum: XxHash3_64::new() }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.write_all_of(bytes);
        self.out.write_all(bytes)
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&self.sum.sum().to_le_bytes())?;
        self.out.flush()
    }
}
