//! The table of cases, natively.

mod store;

use std::sync::Arc;
use std::time::Duration;

use cachekit_conformance::{Case, Group, Harness, Patience, cases, run_case};
use cachekit_test_servers::moto::Moto;
use serde_json::{Value as Json, json};

/// One by one and told at once, because the table takes minutes on a busy machine.
fn passes(options: Json, asked: impl Fn(&Case) -> bool) {
    let harness: Arc<dyn Harness> = Arc::new(store::Table::new(options));
    // A thousand deletions are a thousand exchanges with a Python process.
    let patience = Patience { operation: Duration::from_secs(60), case: Some(Duration::from_secs(600)) };
    let (mut passed, mut failed) = (0, Vec::new());
    for case in cases().iter().filter(|case| asked(case)) {
        let result = run_case(&harness, case, patience);
        println!("{} {}", result.name, if result.ok { "ok" } else { "FAILED" });
        match result.ok {
            true => passed += 1,
            false => failed.push(format!("{}: {:?}", result.name, result.reason)),
        }
    }
    println!("{passed} passed, {} failed", failed.len());
    assert!(failed.is_empty() && passed > 0, "{}", failed.join("\n"));
}

/// Asked of a table whose attributes have other names; the rest of the table of cases is asked of the usual one. Through the
/// library every case is asked of the usual one (`tests/e2e/tests/dynamodb.rs`).
fn renamed(case: &Case) -> bool {
    matches!(case.group, Group::Batch | Group::Locks | Group::Cas | Group::Clear)
}

#[test]
fn a_table_that_the_backend_made_passes_the_cases_that_name_no_attribute() {
    let moto = Moto::start();
    passes(store::options(&moto.url()), |case| !renamed(case));
}

#[test]
fn attributes_of_other_names_pass_what_names_them() {
    let moto = Moto::start();
    let names = json!({
        "key_attribute": "pk", "value_attribute": "size", "ttl_attribute": "expires.at", "version_attribute": "#v :x",
    });
    passes(store::with(&store::options(&moto.url()), &names), renamed);
}
