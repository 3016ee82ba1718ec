//! The guard on what L1 keeps: reads, writes and told changes that meet on one key.

use crate::{Kernel, Mutant};

pub(crate) const KERNEL: Kernel = Kernel {
    file: "invalidate/generations.rs",
    replace: &[("use std::sync::", "use shuttle::sync::")],
    properties: &[
        "l1_ends_with_what_the_store_has",
        "no_look_goes_back_behind_a_finished_write",
        "nothing_older_is_kept_after_a_change_was_told",
        "an_epoch_that_was_renewed_stays_so",
    ],
    mutants: &[
        Mutant {
            name: "kept_without_a_look",
            breaks: "nothing_older_is_kept_after_a_change_was_told",
            from: "(*generation == noted).then(keep)",
            to: "Some(keep()).filter(|_| *generation > 0 || noted == 0)",
        },
        Mutant {
            name: "looked_at_and_then_kept",
            breaks: "no_look_goes_back_behind_a_finished_write",
            from: "(*generation == noted).then(keep)",
            to: "let still = *generation == noted; drop(generation); still.then(keep)",
        },
        Mutant {
            name: "an_epoch_looked_at_and_then_kept",
            breaks: "an_epoch_that_was_renewed_stays_so",
            from: "(*generation == noted).then(keep)",
            to: "let still = *generation == noted; drop(generation); still.then(keep)",
        },
        Mutant {
            name: "changes_do_not_count",
            breaks: "nothing_older_is_kept_after_a_change_was_told",
            from: "*self.lock() += 1;",
            to: "",
        },
        Mutant {
            name: "a_landed_write_does_not_count",
            breaks: "no_look_goes_back_behind_a_finished_write",
            from: "*generation += 1;\n        is_newest",
            to: "is_newest",
        },
        Mutant {
            name: "every_write_is_the_newest",
            breaks: "l1_ends_with_what_the_store_has",
            from: "is_newest.then_some(*generation)",
            to: "Some(*generation).filter(|_| is_newest || mine < u64::MAX)",
        },
    ],
};
