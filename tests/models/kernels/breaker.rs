//! The circuit breaker's half-open time: who may probe, and what becomes of a probe that never answers.

use crate::{Kernel, Mutant};

pub(crate) const KERNEL: Kernel = Kernel {
    file: "guard/breaker.rs",
    replace: &[("use std::sync::", "use shuttle::sync::"), ("\n#[cfg(test)]\nmod tests;\n", "\n")],
    properties: &[
        "no_more_probes_than_allowed",
        "a_probe_that_goes_away_leaves_its_place",
        "a_late_probe_takes_no_place_from_another",
        "a_failed_probe_opens_it_in_any_order",
        "it_is_never_wedged",
    ],
    mutants: &[
        Mutant {
            name: "one_too_many",
            breaks: "no_more_probes_than_allowed",
            from: "inner.probes_given < self.config.probes",
            to: "inner.probes_given <= self.config.probes",
        },
        Mutant {
            name: "look_then_take",
            breaks: "no_more_probes_than_allowed",
            from: "inner.probes_given += 1;",
            to: "drop(inner); let mut inner = self.lock(); inner.probes_given += 1;",
        },
        Mutant {
            name: "reported_and_given_back",
            breaks: "no_more_probes_than_allowed",
            from: "std::mem::forget(self);",
            to: "",
        },
        Mutant {
            name: "nothing_is_given_back",
            breaks: "a_probe_that_goes_away_leaves_its_place",
            from: "inner.probes_given = inner.probes_given.saturating_sub(1);",
            to: "inner.probes_given += 0;",
        },
        Mutant {
            name: "given_back_to_another_round",
            breaks: "a_late_probe_takes_no_place_from_another",
            from: "inner.round == probe.round",
            to: "inner.round > 0",
        },
        Mutant {
            name: "failure_is_forgotten",
            breaks: "a_failed_probe_opens_it_in_any_order",
            from: "inner.cycle == probe.cycle => self.open(&mut inner, now)",
            to: "inner.cycle == probe.cycle => {}",
        },
        Mutant {
            name: "places_are_never_renewed",
            breaks: "it_is_never_wedged",
            from: "BreakerState::Open | BreakerState::HalfOpen if waited_ms > inner.open_ms",
            to: "BreakerState::Open if waited_ms > inner.open_ms",
        },
    ],
};
