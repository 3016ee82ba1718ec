//! The bulkhead: how many are in flight, how many wait, and who gets a place that is left.

use crate::{Kernel, Mutant};

pub(crate) const KERNEL: Kernel = Kernel {
    file: "guard/bulkhead.rs",
    replace: &[("use std::sync::", "use shuttle::sync::"), ("\n#[cfg(test)]\nmod tests;\n", "\n")],
    properties: &[
        "neither_bound_is_exceeded",
        "a_place_that_is_left_reaches_whoever_waits",
        "nothing_is_lost_with_those_who_go_away",
    ],
    mutants: &[
        Mutant {
            name: "looks_then_enters",
            breaks: "neither_bound_is_exceeded",
            from: "match self.load.compare_exchange_weak(load, load + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some",
            to: "match Ok::<u64, u64>(self.load.fetch_add(1, Ordering::Acquire)) {
                Ok(_) => return Some",
        },
        Mutant {
            name: "queue_is_not_looked_at_again",
            breaks: "neither_bound_is_exceeded",
            from: "!has_room && waiting(load) >= self.config.queued",
            to: "false",
        },
        Mutant {
            name: "leaves_without_a_look_at_the_queue",
            breaks: "a_place_that_is_left_reaches_whoever_waits",
            from: "while waiting(load) == 0 {",
            to: "loop {",
        },
        Mutant {
            name: "no_second_look",
            breaks: "a_place_that_is_left_reaches_whoever_waits",
            from: "let next = load + if has_room { 1 } else { ONE_WAITS };",
            to: "let has_room = false; let next = load + ONE_WAITS;",
        },
        Mutant {
            name: "a_place_is_dropped_with_its_ticket",
            breaks: "nothing_is_lost_with_those_who_go_away",
            from: "drop(queue);
                self.bulkhead.leave();",
            to: "drop(queue);",
        },
        Mutant {
            name: "who_goes_away_stays_counted",
            breaks: "nothing_is_lost_with_those_who_go_away",
            from: "queue.remove(at);
                self.bulkhead.load.fetch_sub(ONE_WAITS, Ordering::Relaxed);",
            to: "queue.remove(at);",
        },
    ],
};
