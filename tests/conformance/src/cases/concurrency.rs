//! Many callers at once, each on a thread of its own and all of them on one.

use cachekit_plugin::{BackendError, Bytes, Fut, Key, Kind, Operation};

use crate::case::{Case, Failure, case, ensure};
use crate::instance::DEFAULT_LIFE;
use crate::sample::{check_signed, signed};
use crate::subject::Subject;
use crate::{drive, sample};

pub(super) const CASES: &[Case] = &[
    case!(Concurrency, callers_on_their_own_keys_read_their_own_writes, [], 120),
    case!(Concurrency, callers_on_shared_keys_read_whole_values_of_that_key, [], 120),
    case!(Concurrency, operations_interleaved_on_one_thread_all_end, [], 60),
];

/// Callers at once.
const CALLERS: usize = 64;

/// Rounds of each. 64 × 25 × 3 operations find a race within a second and cost a remote store a few.
const ROUNDS: u64 = 25;

/// Runs `work(0)` to `work(callers - 1)` at once, each on a thread of its own.
pub(super) fn at_once<T: Send>(
    callers: usize,
    work: impl Fn(usize) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    std::thread::scope(|scope| {
        let work = &work;
        let callers: Vec<_> = (0..callers).map(|caller| scope.spawn(move || work(caller))).collect();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// A value length that changes with every write: 0 B to 4 KiB.
fn some_length(key: &[u8], write: u64) -> usize {
    (sample::mix(sample::fnv1a(key) ^ write) % 4096) as usize
}

fn callers_on_their_own_keys_read_their_own_writes(s: &Subject) -> Result<(), Failure> {
    at_once(CALLERS, |caller| {
        let key = s.key(&format!("own{caller}"));
        for write in 0..ROUNDS {
            let value = signed(&key, write, some_length(&key, write));
            s.backend().set(&key, value.clone())?;
            s.backend().expect(&key, Some(&value), "of a caller's own key while others write theirs")?;
            if write % 5 == 4 {
                ensure!(s.backend().delete(&key)?, "a key that only one caller uses was gone before its delete");
                s.backend().expect(&key, None, "of a caller's own key after its delete")?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

fn callers_on_shared_keys_read_whole_values_of_that_key(s: &Subject) -> Result<(), Failure> {
    let keys: Vec<Vec<u8>> = (0..4).map(|number| s.key(&format!("shared{number}"))).collect();
    at_once(CALLERS, |caller| {
        for round in 0..ROUNDS {
            let write = caller as u64 * ROUNDS + round;
            let key = &keys[(sample::mix(write) % 4) as usize];
            match write % 8 {
                0 => {
                    s.backend().delete(key)?;
                }
                1..=4 => s.backend().set(key, signed(key, write, some_length(key, write)))?,
                _ => {}
            }
            for key in &keys {
                if let Some(value) = s.backend().get(key)? {
                    let wrong = check_signed(key, &value).and_then(|write| {
                        let written = write < CALLERS as u64 * ROUNDS && value.len() == 16 + some_length(key, write);
                        if written { Ok(()) } else { Err("nobody wrote it") }
                    });
                    ensure!(wrong.is_ok(), "a value read while others write is wrong: {}", wrong.unwrap_err());
                }
            }
        }
        Ok(())
    })?;
    Ok(())
}

fn operations_interleaved_on_one_thread_all_end(s: &Subject) -> Result<(), Failure> {
    let keys: Vec<Vec<u8>> = (0..32).map(|number| s.key(&format!("k{}", number % 8))).collect();
    let backend = s.backend();
    let cx = backend.cx();
    // Half of them meet on the same keys, so that one that keeps a lock while it waits blocks itself.
    let operations: Vec<Fut<'_, Option<Bytes>>> = keys
        .iter()
        .enumerate()
        .map(|(number, key)| {
            let key_ref = Key::from_wire(key);
            let set = backend.as_dyn().set(key_ref, signed(key, number as u64, 100), DEFAULT_LIFE, &cx);
            let get = backend.as_dyn().get(key_ref, &cx);
            Box::pin(async move {
                if number % 2 == 0 {
                    set.await?;
                }
                get.await
            }) as Fut<'_, _>
        })
        .collect();
    let waited = s.patience().operation * 2;
    let answers: Vec<Result<Option<Bytes>, BackendError>> =
        drive::finish_all(operations, waited).ok_or(Failure::Hung { operation: Operation::Set, waited })?;
    for (key, answer) in keys.iter().zip(answers) {
        // A bounded queue may have been full.
        let throttled = answer.as_ref().is_err_and(|error| error.kind() == Kind::Throttled);
        if !throttled && let Some(value) = answer? {
            let wrong = check_signed(key, &value);
            ensure!(wrong.is_ok(), "a value read between the operations of others is wrong: {}", wrong.unwrap_err());
        }
    }
    Ok(())
}
