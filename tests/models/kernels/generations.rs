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
        "a_change_of_a_neighbour_is_none",
        "many_changes_of_neighbours_hide_none_of_its_own",
    ],
    mutants: &[
        Mutant {
            name: "kept_without_a_look",
            breaks: "nothing_older_is_kept_after_a_change_was_told",
            from: "state.still(key, noted).then(keep)",
            to: "Some(keep()).filter(|_| state.now.all > 0 || noted.all == 0 || key == 0)",
        },
        Mutant {
            name: "looked_at_and_then_kept",
            breaks: "no_look_goes_back_behind_a_finished_write",
            from: "state.still(key, noted).then(keep)",
            to: "let still = state.still(key, noted); drop(state); still.then(keep)",
        },
        Mutant {
            name: "an_epoch_looked_at_and_then_kept",
            breaks: "an_epoch_that_was_renewed_stays_so",
            from: "state.still(key, noted).then(keep)",
            to: "let still = state.still(key, noted); drop(state); still.then(keep)",
        },
        Mutant {
            name: "changes_do_not_count",
            breaks: "nothing_older_is_kept_after_a_change_was_told",
            from: "self.lock().change(key, false);",
            to: "",
        },
        Mutant {
            name: "a_landed_write_does_not_count",
            breaks: "no_look_goes_back_behind_a_finished_write",
            from: "state.change(key, true);\n        is_newest",
            to: "is_newest",
        },
        Mutant {
            name: "every_write_is_the_newest",
            breaks: "l1_ends_with_what_the_store_has",
            from: "let is_newest = state.still(key, mine);",
            to: "let is_newest = mine.all < u64::MAX;",
        },
        Mutant {
            name: "what_nobody_knows_is_no_change",
            breaks: "many_changes_of_neighbours_hide_none_of_its_own",
            from: "self.knows(noted) && since(noted, self.now).all(|number| self.keys[place(number)] >> 1 != key >> 1)",
            to: "since(noted, self.now).all(|number| self.keys[place(number)] >> 1 != key >> 1)",
        },
        Mutant {
            name: "a_neighbour_is_taken_for_the_key",
            breaks: "a_change_of_a_neighbour_is_none",
            from: "self.knows(noted) && since(noted, self.now).all(|number| self.keys[place(number)] >> 1 != key >> 1)",
            to: "self.now == noted || key == u64::MAX",
        },
        Mutant {
            name: "own_writes_count_as_those_of_others",
            breaks: "a_fenced_load_puts_nothing_over_what_never_came_to_the_store",
            from: "let own = marked(key, true);",
            to: "let own = marked(key, false);",
        },
        Mutant {
            name: "the_end_of_an_own_write_counts_as_one_of_others",
            breaks: "a_fenced_load_puts_nothing_over_what_never_came_to_the_store",
            from: "state.change(key, true);\n        is_newest",
            to: "state.change(key, false);\n        is_newest",
        },
    ],
};
