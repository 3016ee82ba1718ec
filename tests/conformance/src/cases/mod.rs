//! The table: one file for each group, one sentence for each case.

mod batch;
mod cancel;
mod cas;
mod clear;
mod concurrency;
mod config;
mod contract;
mod deadline;
mod faults;
mod freshness;
mod limits;
mod locks;
mod scan;
mod ttl;
mod watch;

use std::sync::LazyLock;

use crate::case::Case;

/// Every case, in the order in which a report shows them.
pub fn cases() -> &'static [Case] {
    static TABLE: LazyLock<Vec<Case>> = LazyLock::new(|| {
        [
            contract::CASES,
            limits::CASES,
            concurrency::CASES,
            cancel::CASES,
            deadline::CASES,
            batch::CASES,
            ttl::CASES,
            locks::CASES,
            cas::CASES,
            scan::CASES,
            clear::CASES,
            watch::CASES,
            freshness::CASES,
            config::CASES,
            faults::CASES,
        ]
        .concat()
    });
    &TABLE
}

/// The case of that name.
pub fn find(name: &str) -> Option<&'static Case> {
    cases().iter().find(|case| case.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_find_their_case() {
        let names: HashSet<&str> = super::cases().iter().map(|case| case.name).collect();
        assert_eq!(names.len(), super::cases().len());
        assert!(names.iter().all(|name| super::find(name).is_some_and(|case| case.name == *name)));
        assert!(super::find("no such case").is_none());
    }
}
