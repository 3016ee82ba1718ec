//! Random writes, deletions, invalidations and clears, beside a map that does the same naively.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::blocking::wait;

#[derive(Debug, Clone)]
enum Step {
    Set { key: u8, tags: Vec<u8> },
    Delete { key: u8 },
    Invalidate { tag: u8 },
    Clear,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..6, prop::collection::vec(0_u8..4, 0..3)).prop_map(|(key, tags)| Step::Set { key, tags }),
        1 => (0_u8..6).prop_map(|key| Step::Delete { key }),
        3 => (0_u8..4).prop_map(|tag| Step::Invalidate { tag }),
        1 => Just(Step::Clear),
        1 => Just(Step::Wait),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(bool, Step)>> {
    prop::collection::vec((any::<bool>(), step()), 1..40)
}

/// What a cache that forgets nothing would have.
#[derive(Default)]
struct Naive(BTreeMap<u8, (u32, Vec<u8>)>);

impl Naive {
    fn take(&mut self, step: &Step, value: u32) {
        match step {
            Step::Set { key, tags } => _ = self.0.insert(*key, (value, tags.clone())),
            Step::Delete { key } => _ = self.0.remove(key),
            Step::Invalidate { tag } => self.0.retain(|_, (_, tags)| !tags.contains(tag)),
            Step::Clear => self.0.clear(),
            Step::Wait => {}
        }
    }

    fn value(&self, key: u8) -> Option<u32> {
        self.0.get(&key).map(|(value, _)| *value)
    }
}

fn take(cache: &Cache, clock: &ManualClock, step: &Step, value: u32) {
    match step {
        Step::Set { key, tags } => {
            let options = SetOptions::default().with_tags(tags.iter().map(|tag| [*tag]));
            wait(cache.set_with([*key], &value, options)).unwrap();
        }
        Step::Delete { key } => _ = wait(cache.delete([*key])).unwrap(),
        Step::Invalidate { tag } => wait(cache.invalidate_tag([*tag])).unwrap(),
        Step::Clear => _ = wait(cache.clear()).unwrap(),
        Step::Wait => clock.advance(Duration::from_secs(7)),
    }
}

fn value(cache: &Cache, key: u8) -> Option<u32> {
    wait(cache.get::<u32>([key])).unwrap().map(|value| *value)
}

proptest! {
    /// One process, whatever its tiers: exactly what the naive map has.
    #[test]
    fn one_process_has_what_a_naive_map_has(steps in steps(), tiers in 0_u8..4) {
        let bench = Bench::new();
        let store = Arc::new(bench.store.clone());
        let cache = match tiers {
            0 => bench.builder(store).build(),
            1 => bench.builder(store).without_l1().build(),
            2 => bench.over_opaque_builder().build(),
            _ => Cache::builder().clock(bench.clock.clone()).build(),
        };
        let (cache, mut naive) = (cache.unwrap(), Naive::default());
        for (n, (_, step)) in steps.iter().enumerate() {
            take(&cache, &bench.clock, step, n as u32);
            naive.take(step, n as u32);
            for key in 0..6 {
                prop_assert_eq!(value(&cache, key), naive.value(key), "key {} after step {} of {:?}", key, n, &steps);
            }
        }
    }

    /// Two processes on one store: a reader without L1 sees nothing that the naive map has not, at any time; each process once
    /// the cap is over. What they may do is lose something.
    #[test]
    fn two_processes_bring_nothing_back(steps in steps(), opaque: bool) {
        let bench = Bench::new();
        let builder = || match opaque {
            true => bench.over_opaque_builder(),
            false => bench.builder(Arc::new(bench.store.clone())),
        };
        let (one, two) = (builder().build().unwrap(), builder().build().unwrap());
        let (reader, mut naive) = (builder().without_l1().build().unwrap(), Naive::default());
        for (n, (first, step)) in steps.iter().enumerate() {
            take(if *first { &one } else { &two }, &bench.clock, step, n as u32);
            naive.take(step, n as u32);
            for key in 0..6 {
                let seen = value(&reader, key);
                prop_assert!(seen.is_none() || seen == naive.value(key), "{:?} after step {} of {:?}", seen, n, &steps);
            }
        }
        bench.clock.advance(CAP);
        for key in 0..6 {
            for process in [&one, &two] {
                let seen = value(process, key);
                prop_assert!(seen.is_none() || seen == naive.value(key), "{:?} in the end of {:?}", seen, &steps);
            }
        }
    }
}

impl Bench {
    fn over_opaque_builder(&self) -> CacheBuilder {
        self.builder(Arc::new(Opaque(self.store.clone())))
    }
}
