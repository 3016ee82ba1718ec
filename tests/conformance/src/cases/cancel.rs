//! Futures that are dropped before they are done: the way every time-out and every `select!` ends.

use cachekit_plugin::{Bytes, Fut, Key, SetItem};

use crate::case::{Case, Failure, case, ensure};
use crate::instance::{DEFAULT_LIFE, Instance};
use crate::sample::{describe, echo, noise};
use crate::subject::Subject;
use crate::{drive, life};

pub(super) const CASES: &[Case] = &[
    case!(Cancel, a_dropped_set_leaves_the_old_or_the_new_value, [], 60),
    case!(Cancel, a_dropped_delete_leaves_the_old_value_or_nothing, [], 60),
    case!(Cancel, dropped_reads_harm_no_later_operation, [], 60),
    case!(Cancel, many_dropped_operations_use_nothing_up, [], 60),
    case!(Cancel, a_dropped_batch_leaves_old_or_new_values, [Batch], 60),
    case!(Cancel, a_dropped_lock_request_blocks_nobody_beyond_its_hold, [Locks], 60, waits),
    case!(Cancel, a_dropped_set_if_leaves_the_old_or_the_new_value, [Cas], 60),
];

/// Poll steps after which futures are dropped. Operations of more steps are rare, and their last ones alike.
const STEPS: usize = 24;

/// Starts an operation again and again and drops it after no poll, one poll, two …; `after` looks at what it left.
/// Ends with the first start that was done before it could be dropped.
fn drop_at_every_step(
    mut start: impl FnMut(usize) -> Result<bool, Failure>,
    mut after: impl FnMut(usize) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for polls in 0..STEPS {
        let done = start(polls)?;
        after(polls)?;
        if done {
            break;
        }
    }
    Ok(())
}

/// Polls `future` `polls` times and drops it. Whether it was done by then; an error of its own is of no interest.
fn poll_and_drop<T>(mut future: Fut<'_, T>, polls: usize) -> bool {
    drive::poll_times(future.as_mut(), polls).is_some()
}

/// A key the dropped operation does not concern must work as ever: write, read, delete.
fn unharmed(backend: &Instance, key: &[u8], polls: usize) -> Result<(), Failure> {
    let value = noise(polls as u64, 64);
    let when = format!("of another key, after an operation was dropped at poll {polls}");
    backend.set(key, value.clone())?;
    backend.expect(key, Some(&value), &when)?;
    ensure!(backend.delete(key)?, "after an operation was dropped at poll {polls}, another key is gone");
    Ok(())
}

fn old_or_new(backend: &Instance, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) -> Result<(), Failure> {
    let found = backend.get(key)?;
    let found = found.as_deref();
    ensure!(
        found == old || found == new,
        "a dropped write left {}, which is neither the old nor the new value",
        describe(found)
    );
    Ok(())
}

fn a_dropped_set_leaves_the_old_or_the_new_value(s: &Subject) -> Result<(), Failure> {
    let (backend, other) = (s.backend(), s.key("other"));
    // A key for each step: work that has begun may still end after the drop, and must not meet the next step.
    let key_of = |polls: usize| s.key(&format!("k{polls}"));
    let (old, new) = (noise(1, 10_000), noise(2, 10_000));
    drop_at_every_step(
        |polls| {
            let key = key_of(polls);
            backend.set(&key, old.clone())?;
            let cx = backend.cx();
            Ok(poll_and_drop(backend.as_dyn().set(Key::from_wire(&key), new.clone(), DEFAULT_LIFE, &cx), polls))
        },
        |polls| {
            old_or_new(backend, &key_of(polls), Some(&old), Some(&new))?;
            unharmed(backend, &other, polls)?;
            old_or_new(backend, &key_of(polls), Some(&old), Some(&new))
        },
    )
}

fn a_dropped_delete_leaves_the_old_value_or_nothing(s: &Subject) -> Result<(), Failure> {
    let (backend, other) = (s.backend(), s.key("other"));
    let key_of = |polls: usize| s.key(&format!("k{polls}"));
    drop_at_every_step(
        |polls| {
            let key = key_of(polls);
            backend.set(&key, echo(&key))?;
            let cx = backend.cx();
            Ok(poll_and_drop(backend.as_dyn().delete(Key::from_wire(&key), &cx), polls))
        },
        |polls| {
            let key = key_of(polls);
            old_or_new(backend, &key, Some(&echo(&key)), None)?;
            unharmed(backend, &other, polls)
        },
    )
}

fn dropped_reads_harm_no_later_operation(s: &Subject) -> Result<(), Failure> {
    let (backend, other) = (s.backend(), s.key("other"));
    let keys: Vec<Vec<u8>> = (0..4).map(|number| s.key(&format!("k{number}"))).collect();
    for key in &keys {
        backend.set(key, echo(key))?;
    }
    drop_at_every_step(
        |polls| {
            let cx = backend.cx();
            let (get, exists) = (Key::from_wire(&keys[0]), Key::from_wire(&keys[1]));
            let done = poll_and_drop(backend.as_dyn().get(get, &cx), polls);
            Ok(poll_and_drop(backend.as_dyn().exists(exists, &cx), polls) & done)
        },
        |polls| {
            // An answer that was meant for the dropped read must not be given to the next.
            for key in keys.iter().rev() {
                backend.expect(key, Some(&echo(key)), &format!("after a read was dropped at poll {polls}"))?;
            }
            unharmed(backend, &other, polls)
        },
    )
}

fn many_dropped_operations_use_nothing_up(s: &Subject) -> Result<(), Failure> {
    let (backend, key, other) = (s.backend(), s.key("k"), s.key("other"));
    backend.set(&key, echo(&key))?;
    for number in 0..512 {
        let cx = backend.cx();
        // More than any pool, queue or set of permits holds.
        poll_and_drop(backend.as_dyn().get(Key::from_wire(&key), &cx), 1);
        poll_and_drop(backend.as_dyn().exists(Key::from_wire(&key), &cx), number % 2);
    }
    unharmed(backend, &other, 1)?;
    backend.expect(&key, Some(&echo(&key)), "after many reads of it were dropped")
}

fn a_dropped_batch_leaves_old_or_new_values(s: &Subject) -> Result<(), Failure> {
    let (backend, other) = (s.backend(), s.key("other"));
    let keys_of = |polls: usize| -> Vec<Vec<u8>> { (0..8).map(|n| s.key(&format!("k{polls}-{n}"))).collect() };
    let (old, new) = (noise(1, 1000), noise(2, 1000));
    drop_at_every_step(
        |polls| {
            let keys = keys_of(polls);
            for key in &keys {
                backend.set(key, old.clone())?;
            }
            let items: Vec<SetItem<'_>> = keys
                .iter()
                .map(|key| SetItem { key: Key::from_wire(key), value: new.clone(), ttl: DEFAULT_LIFE })
                .collect();
            let cx = backend.cx();
            Ok(poll_and_drop(backend.batch()?.set_many(&items, &cx), polls))
        },
        |polls| {
            for key in keys_of(polls) {
                old_or_new(backend, &key, Some(&old), Some(&new))?;
            }
            unharmed(backend, &other, polls)
        },
    )
}

fn a_dropped_lock_request_blocks_nobody_beyond_its_hold(s: &Subject) -> Result<(), Failure> {
    let backend = s.backend();
    let hold_ms = life::short_ms(s.limits())?;
    let keys: Vec<Vec<u8>> = (0..STEPS).map(|number| s.key(&format!("k{number}"))).collect();
    drop_at_every_step(
        |polls| {
            let cx = backend.cx();
            Ok(poll_and_drop(backend.locks()?.lock(Key::from_wire(&keys[polls]), b"dropped", hold_ms, &cx), polls))
        },
        |_| Ok(()),
    )?;
    life::outlast(s)?;
    for key in &keys {
        ensure!(backend.lock(key, b"next", 60_000)?, "a lock request that was dropped still holds after its hold");
        ensure!(backend.unlock(key, b"next")?, "a lease taken after a dropped request cannot be given back");
    }
    Ok(())
}

fn a_dropped_set_if_leaves_the_old_or_the_new_value(s: &Subject) -> Result<(), Failure> {
    let (backend, other) = (s.backend(), s.key("other"));
    let key_of = |polls: usize| s.key(&format!("k{polls}"));
    let (old, new) = (noise(1, 1000), noise(2, 1000));
    drop_at_every_step(
        |polls| {
            let key = key_of(polls);
            backend.set(&key, old.clone())?;
            let version = backend.get_version(&key)?.map(|(_, version)| version);
            let cx = backend.cx();
            let set = backend.cas()?.set_if(Key::from_wire(&key), new.clone(), DEFAULT_LIFE, version, &cx);
            Ok(poll_and_drop(set, polls))
        },
        |polls| {
            let key = key_of(polls);
            old_or_new(backend, &key, Some(&old), Some(&new))?;
            let versioned: Option<Bytes> = backend.get_version(&key)?.map(|(value, _)| value);
            ensure!(
                versioned.as_ref() == Some(&old) || versioned.as_ref() == Some(&new),
                "a dropped set_if left {}, which is neither the old nor the new value",
                describe(versioned.as_deref())
            );
            unharmed(backend, &other, polls)
        },
    )
}
