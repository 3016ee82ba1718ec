//! The byte budget of L1: what is taken off the weights to tell how many bytes are held.

use crate::{Kernel, Mutant};

pub(crate) const KERNEL: Kernel = Kernel {
    file: "l1/slack.rs",
    replace: &[("use std::sync::", "use shuttle::sync::")],
    properties: &["it_is_never_too_small_and_nothing_in_the_end"],
    mutants: &[
        Mutant {
            name: "inserts_before_it_counts",
            breaks: "it_is_never_too_small_and_nothing_in_the_end",
            from: "        if by > 0 {
            self.0.fetch_add(by, Ordering::Relaxed);
        }
        insert()",
            to: "        let inserted = insert();
        self.0.fetch_add(by, Ordering::Relaxed);
        inserted",
        },
        Mutant {
            name: "lowers_by_a_lost_update",
            breaks: "it_is_never_too_small_and_nothing_in_the_end",
            from: "self.0.fetch_sub(by, Ordering::Relaxed);",
            to: "let now = self.0.load(Ordering::Relaxed);
            self.0.store(now - by, Ordering::Relaxed);",
        },
    ],
};
