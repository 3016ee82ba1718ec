//! Flights: one leads, the others wait, and whatever becomes of the one, none of the others is forgotten or gets what is too
//! old for him.

use crate::{Kernel, Mutant};

pub(crate) const KERNEL: Kernel = Kernel {
    file: "guard/flight.rs",
    replace: &[
        ("use std::sync::", "use shuttle::sync::"),
        ("use super::deadline::within;", "use crate::guard::deadline::within;\nuse crate::local::Borrow as _;"),
        // Each of shuttle's threads has its own.
        ("\nthread_local! {", "\nshuttle::thread_local! {"),
        ("\n#[cfg(test)]\nmod tests {", "\n#[cfg(any())]\nmod tests {"),
    ],
    properties: &[
        "no_two_lead_at_the_same_time",
        "whoever_waits_is_woken_whatever_becomes_of_the_leader",
        "after_a_write_nobody_joins_what_began_before_it",
        "a_leader_that_was_detached_takes_nothing_from_the_next",
        "nobody_gets_what_another_process_had_overwritten_when_he_asked",
        "a_load_that_asks_for_its_own_key_waits_for_nobody",
        "of_all_who_wait_too_long_one_leads_beside_the_first",
    ],
    mutants: &[
        Mutant {
            name: "looks_then_begins",
            breaks: "no_two_lead_at_the_same_time",
            from: "let flight = Arc::new(Flight {",
            to: "drop(shard); let mut shard = lock(self.shard(hash)); let flight = Arc::new(Flight {",
        },
        Mutant {
            name: "looks_then_waits",
            breaks: "whoever_waits_is_woken_whatever_becomes_of_the_leader",
            from: "            changed.await;",
            // Tokio's notification is no point where the scheduler acts, so one is put where there was a gap.
            to: "            drop(changed); shuttle::thread::yield_now(); self.changed.notified().await;",
        },
        Mutant {
            name: "wakes_one",
            breaks: "whoever_waits_is_woken_whatever_becomes_of_the_leader",
            from: "self.flight.changed.notify_waiters();",
            to: "self.flight.changed.notify_one();",
        },
        Mutant {
            name: "goes_without_a_word",
            breaks: "whoever_waits_is_woken_whatever_becomes_of_the_leader",
            from: "*state = State::Abandoned;",
            to: "*state = State::Flying { leaders: 1, due: Deadline::NEVER };",
        },
        Mutant {
            name: "parts_without_a_word",
            breaks: "whoever_waits_is_woken_whatever_becomes_of_the_leader",
            from: "self.end(State::Parted);",
            to: "std::mem::forget(self);",
        },
        Mutant {
            name: "a_write_detaches_nothing",
            breaks: "after_a_write_nobody_joins_what_began_before_it",
            from: "        shard.remove(&Kind::Load.number(hash));",
            to: "",
        },
        Mutant {
            name: "takes_away_whatever_flies",
            breaks: "a_leader_that_was_detached_takes_nothing_from_the_next",
            from: "Arc::ptr_eq(entry.get(), flight)",
            to: "entry.get().process == flight.process",
        },
        Mutant {
            name: "gives_what_landed_to_whoever_came",
            breaks: "nobody_gets_what_another_process_had_overwritten_when_he_asked",
            from: "State::Landed(landed, until) if came < *until",
            to: "State::Landed(landed, until) if came < Moment::EVERYBODY",
        },
        Mutant {
            name: "takes_him_for_one_who_came_first",
            breaks: "nobody_gets_what_another_process_had_overwritten_when_he_asked",
            from: "Moment(self.moments.load(Ordering::SeqCst))",
            to: "Moment::NOBODY",
        },
        Mutant {
            name: "comes_in_the_moment_of_the_question",
            breaks: "nobody_gets_what_another_process_had_overwritten_when_he_asked",
            from: "came < *until",
            to: "came <= *until",
        },
        Mutant {
            name: "waits_for_itself",
            breaks: "a_load_that_asks_for_its_own_key_waits_for_nobody",
            from: "|| LEADING.with_borrow(|led| led.contains(&address(self)))",
            to: "",
        },
        Mutant {
            name: "everybody_relieves",
            breaks: "of_all_who_wait_too_long_one_leads_beside_the_first",
            from: "*due = Deadline::after(patience);",
            to: "",
        },
        Mutant {
            name: "goes_alone_after_a_while",
            breaks: "of_all_who_wait_too_long_one_leads_beside_the_first",
            from: ".await.unwrap_or(Waited::TooLong)",
            to: ".await.unwrap_or(Waited::Parted)",
        },
    ],
};
