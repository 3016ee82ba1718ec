//! The judge: knows every write that was begun and says of each value that is read whether it may be there.
//!
//! It judges by intervals, so it needs no order of operations beyond the clock of this process: a write that was begun
//! after another had returned comes later; writes that overlap may come in any order. A write that was cancelled, timed
//! out or failed is *unknown*: it may take effect at any later time, or never. Misses are never wrong: a cache may lose.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::value::{self, Claim};

/// Violations that are kept word for word; the rest is counted.
const KEPT: usize = 20;

/// One write of a key; a delete is one too.
#[derive(Debug, Clone, Copy)]
struct Write {
    /// `None`: a delete.
    number: Option<u64>,
    begun_ns: u64,
    /// `None`: still under way, or unknown for good.
    done_ns: Option<u64>,
}

/// The judge of one run.
#[derive(Debug)]
pub struct Checker {
    origin: Instant,
    writes: AtomicU64,
    keys: Vec<Mutex<Vec<Write>>>,
    /// Writes that returned before this time may have been lost by the store itself, as by asynchronous replication.
    trusted_from_ns: AtomicU64,
    wrong: AtomicU64,
    said: Mutex<Vec<String>>,
    checked: AtomicU64,
    hits: AtomicU64,
}

/// A write under way. Dropped without [`done`](Self::done), it is unknown.
#[derive(Debug)]
pub struct Writing<'a> {
    checker: &'a Checker,
    key: u64,
    place: usize,
}

/// A read under way.
#[derive(Debug)]
pub struct Reading<'a> {
    checker: &'a Checker,
    key: u64,
    begun_ns: u64,
}

impl Checker {
    /// For so many keys.
    pub fn new(keys: u64) -> Self {
        Self {
            origin: Instant::now(),
            writes: AtomicU64::new(1),
            keys: (0..keys).map(|_| Mutex::new(Vec::new())).collect(),
            trusted_from_ns: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            said: Mutex::new(Vec::new()),
            checked: AtomicU64::new(0),
            hits: AtomicU64::new(0),
        }
    }

    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Before a set; returns the value to store.
    pub fn set(&self, key: u64, size: usize) -> (Writing<'_>, Vec<u8>) {
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        (self.begin(key, Some(write)), value::make(Claim { key, write }, size))
    }

    /// Before a delete.
    pub fn delete(&self, key: u64) -> Writing<'_> {
        self.begin(key, None)
    }

    /// Before a read.
    pub fn read(&self, key: u64) -> Reading<'_> {
        Reading { checker: self, key, begun_ns: self.now_ns() }
    }

    /// From now on the store itself may lose writes, so that an older value is no violation: a primary that died had not
    /// sent everything to its replica. Other keys' values and torn ones stay wrong.
    pub fn doubt(&self) {
        self.trusted_from_ns.store(u64::MAX, Ordering::Relaxed);
    }

    /// What is written from now on stays.
    pub fn trust(&self) {
        self.trusted_from_ns.store(self.now_ns(), Ordering::Relaxed);
    }

    /// How many reads returned what they must not.
    pub fn wrong(&self) -> u64 {
        self.wrong.load(Ordering::Relaxed)
    }

    /// The first of them, in words. Keys and writes are numbers of this run.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many reads were judged, and how many of them returned a value.
    pub fn checked(&self) -> (u64, u64) {
        (self.checked.load(Ordering::Relaxed), self.hits.load(Ordering::Relaxed))
    }

    fn begin(&self, key: u64, number: Option<u64>) -> Writing<'_> {
        let mut history = self.history(key);
        history.push(Write { number, begun_ns: self.now_ns(), done_ns: None });
        Writing { checker: self, key, place: history.len() - 1 }
    }

    fn judge(&self, reading: &Reading<'_>, found: Option<&[u8]>) {
        self.checked.fetch_add(1, Ordering::Relaxed);
        let Some(found) = found else { return };
        self.hits.fetch_add(1, Ordering::Relaxed);
        let Some(claim) = value::read(found) else {
            return self.report(format!("key {}: {} bytes that are no whole value", reading.key, found.len()));
        };
        if claim.key != reading.key {
            return self.report(format!("key {}: the value of key {}", reading.key, claim.key));
        }
        let history = self.history(reading.key);
        let Some(write) = history.iter().find(|write| write.number == Some(claim.write)) else {
            return self.report(format!("key {}: write {} was never begun", reading.key, claim.write));
        };
        // Unknown writes may take effect whenever they like.
        let Some(done_ns) = write.done_ns else { return };
        let trusted_from_ns = self.trusted_from_ns.load(Ordering::Relaxed);
        let newer = history.iter().find(|newer| {
            newer.begun_ns > done_ns
                && newer.done_ns.is_some_and(|done_ns| done_ns < reading.begun_ns && done_ns > trusted_from_ns)
        });
        if let Some(newer) = newer {
            let what = newer.number.map_or("deleted".to_owned(), |number| format!("replaced by write {number}"));
            self.report(format!("key {}: write {}, which had been {what} before", reading.key, claim.write));
        }
    }

    fn report(&self, text: String) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < KEPT {
            said.push(text);
        }
    }

    fn history(&self, key: u64) -> std::sync::MutexGuard<'_, Vec<Write>> {
        self.keys[key as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

impl Writing<'_> {
    /// The store said that it is done.
    pub fn done(self) {
        let now_ns = self.checker.now_ns();
        self.checker.history(self.key)[self.place].done_ns = Some(now_ns);
    }
}

impl Reading<'_> {
    /// The store returned this.
    pub fn returned(self, found: Option<&[u8]>) {
        self.checker.judge(&self, found);
    }
}
