//! The table of cases, natively.

mod store;

use std::sync::Arc;

use cachekit_conformance::{Case, Group, run_all};
use cachekit_test_servers::moto::Moto;
use serde_json::json;

fn passes(options: serde_json::Value, asked: fn(&Case) -> bool) {
    let report = run_all(Arc::new(store::Table::new(options)), asked);
    let not_asked: Vec<_> =
        report.cases.iter().filter_map(|case| Some((&case.name, case.skipped_because.as_ref()?))).collect();
    println!("{} passed, {} failed; not asked: {not_asked:?}", report.passed, report.failed);
    assert!(report.is_ok(), "{report}");
}

#[test]
fn a_table_that_the_backend_made_passes_every_case() {
    let moto = Moto::start();
    passes(store::options(&moto.url()), |_| true);
}

#[test]
fn attributes_of_other_names_pass_what_names_them() {
    let moto = Moto::start();
    let names = json!({
        "key_attribute": "pk", "value_attribute": "size", "ttl_attribute": "expires.at", "version_attribute": "#v :x",
    });
    let named = |case: &Case| matches!(case.group, Group::Batch | Group::Locks | Group::Cas | Group::Clear);
    passes(store::with(&store::options(&moto.url()), &names), named);
}
