//! The keys of a run: in a namespace of their own with a random name, so that nobody else's entries are touched, and with
//! an end of their own, so that a run that is killed leaves nothing for long.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachekit::within;
use cachekit_plugin::{Backend, BackendError, Cx, Deadline, Key, Operation, Ttl};
use futures_util::{StreamExt, stream};

use crate::cli::transfer::BenchArgs;
use crate::exit::Failure;
use crate::output::hex;

/// Life of what is written.
pub(super) const LIFE: Duration = Duration::from_secs(3600);

/// Single operations under way while keys are written and removed.
const IN_FLIGHT: usize = 64;

/// Bytes that say whose value it is.
const MARK: usize = 4;

/// What callers work with. Cheap to clone.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) backend: Arc<dyn Backend>,
    prefix: Arc<str>,
    count: u32,
    /// The bytes of every value, all but the mark: no compressor gets anywhere with them.
    noise: Bytes,
    deadline: Duration,
}

impl Keys {
    pub(super) fn new(backend: Arc<dyn Backend>, args: &BenchArgs) -> Result<Self, Failure> {
        let limits = backend.limits();
        if args.value_size as u64 > limits.max_value {
            let (asked, max) = (args.value_size, limits.max_value);
            return Err(Failure::Usage(format!("values of {asked} bytes were asked for, the store takes {max}")));
        }
        let mut random = [0_u8; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Failure::io("the system gives no random bytes")(error.into()))?;
        let this = Self {
            backend,
            prefix: format!("ck:bench-{}:", hex(&random)).into(),
            count: args.keys,
            noise: noise(args.value_size, u64::from_le_bytes(random)),
            deadline: args.deadline,
        };
        if !limits.takes_key(&this.key(args.keys)) {
            return Err(Failure::Usage(format!(
                "the store takes keys of {} bytes, too short for a bench",
                limits.max_key
            )));
        }
        Ok(this)
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    fn key(&self, number: u32) -> Vec<u8> {
        format!("{}{number}", self.prefix).into_bytes()
    }

    /// The value of a key. Values too short for the mark are the same for all keys.
    fn value(&self, number: u32) -> Bytes {
        if self.noise.len() < MARK {
            return self.noise.clone();
        }
        [&number.to_le_bytes()[..], &self.noise[MARK..]].concat().into()
    }

    /// Whether these bytes are the value of that key.
    fn is_value(&self, number: u32, found: &[u8]) -> bool {
        let marked = self.noise.len() >= MARK;
        found.len() == self.noise.len() && (!marked || found.starts_with(&number.to_le_bytes()))
    }

    /// Reads: `Some(true)` a hit, `Some(false)` the wrong bytes, `None` a miss.
    pub(super) async fn get(&self, number: u32) -> Result<Option<bool>, BackendError> {
        let (key, deadline) = (self.key(number), Deadline::after(self.deadline));
        let cx = Cx::new(deadline);
        let found = within(deadline, Operation::Get, self.backend.get(Key::from_wire(&key), &cx)).await?;
        Ok(found.map(|found| self.is_value(number, &found)))
    }

    pub(super) async fn set(&self, number: u32) -> Result<(), BackendError> {
        let (key, deadline) = (self.key(number), Deadline::after(self.deadline));
        let cx = Cx::new(deadline);
        let ttl = Ttl::from_duration(LIFE).unwrap_or(Ttl::Never);
        within(deadline, Operation::Set, self.backend.set(Key::from_wire(&key), self.value(number), ttl, &cx)).await
    }

    /// Writes every key once. The first failure ends it: there is nothing to measure then.
    pub(super) async fn fill(&self) -> Result<(), BackendError> {
        let mut sets = stream::iter((0..self.count).map(|number| self.set(number))).buffer_unordered(IN_FLIGHT);
        while let Some(set) = sets.next().await {
            set?;
        }
        Ok(())
    }

    /// Removes every key and returns how many could not be.
    pub(super) async fn remove(&self) -> u64 {
        let remove = async |number| {
            let (key, deadline) = (self.key(number), Deadline::after(self.deadline));
            let cx = Cx::new(deadline);
            within(deadline, Operation::Delete, self.backend.delete(Key::from_wire(&key), &cx)).await
        };
        let mut removals = stream::iter((0..self.count).map(remove)).buffer_unordered(IN_FLIGHT);
        let (mut left, mut in_a_row) = (0, 0);
        let mut done = 0;
        while let Some(removed) = removals.next().await {
            done += 1;
            match removed {
                Ok(_) => in_a_row = 0,
                Err(_) => {
                    left += 1;
                    in_a_row += 1;
                }
            }
            // The store is gone: each of the others would take a deadline to say so.
            if in_a_row > 2 * IN_FLIGHT {
                return left + u64::from(self.count) - done;
            }
        }
        left
    }
}

/// xorshift: no secrets here, only bytes that do not compress.
fn noise(len: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = next(state);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// The next state of a generator whose state is not zero.
pub(super) fn next(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_its_length_and_no_end_of_variety() {
        for len in [0, 1, 7, 8, 9, 4096] {
            assert_eq!(noise(len, 7).len(), len);
        }
        let bytes = noise(1 << 16, 7);
        let mut counts = [0_u32; 256];
        bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        assert!(counts.iter().all(|count| (128..512).contains(count)), "{counts:?}");
    }
}
