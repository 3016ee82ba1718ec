//! The guard on what is kept: reads, loads, writes and told changes that meet on one key.

use crate::{Kernel, Mutant};

pub(crate) const KERNEL: Kernel = Kernel {
    file: "invalidate/generations.rs",
    replace: &[("use std::sync::", "use shuttle::sync::")],
    properties: &[
        "l1_ends_with_what_the_store_has",
        "no_look_goes_back_behind_a_finished_write",
        "nothing_older_is_kept_after_a_change_was_told",
        "an_epoch_that_was_renewed_stays_so",
        "a_fenced_load_puts_nothing_over_what_never_came_to_the_store",
    ],
    mutants: &[
        Mutant {
            name: "kept_without_a_look",
            breaks: "nothing_older_is_kept_after_a_change_was_told",
            from: "(*now == noted).then(keep)",
            to: "Some(keep()).filter(|_| now.all > 0 || noted.all == 0)",
        },
        Mutant {
            name: "looked_at_and_then_kept",
            breaks: "no_look_goes_back_behind_a_finished_write",
            from: "(*now == noted).then(keep)",
            to: "let still = *now == noted; drop(now); still.then(keep)",
        },
        Mutant {
            name: "an_epoch_looked_at_and_then_kept",
            breaks: "an_epoch_that_was_renewed_stays_so",
            from: "(*now == noted).then(keep)",
            to: "let still = *now == noted; drop(now); still.then(keep)",
        },
        Mutant {
            name: "changes_do_not_count",
            breaks: "nothing_older_is_kept_after_a_change_was_told",
            from: "self.lock().all += 1;",
            to: "",
        },
        Mutant {
            name: "a_landed_write_does_not_count",
            breaks: "no_look_goes_back_behind_a_finished_write",
            from: "now.all += 1;\n        now.own += 1;\n        is_newest",
            to: "is_newest",
        },
        Mutant {
            name: "every_write_is_the_newest",
            breaks: "l1_ends_with_what_the_store_has",
            from: "is_newest.then_some(*now)",
            to: "Some(*now).filter(|_| is_newest || mine.all < u64::MAX)",
        },
        Mutant {
            name: "own_writes_count_as_those_of_others",
            breaks: "a_fenced_load_puts_nothing_over_what_never_came_to_the_store",
            from: "self.own == before.own",
            to: "self.all >= before.own",
        },
        Mutant {
            name: "the_end_of_an_own_write_does_not_count_as_own",
            breaks: "a_fenced_load_puts_nothing_over_what_never_came_to_the_store",
            from: "now.own += 1;\n        is_newest",
            to: "is_newest",
        },
    ],
};
