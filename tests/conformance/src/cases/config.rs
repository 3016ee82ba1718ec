//! Options that cannot work: an error that says so, at opening, and nothing worse.

use cachekit_plugin::{BackendError, Kind};
use serde_json::{Value, json};

use crate::case::{Case, Failure, case, ensure};
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(Config, garbage_is_a_configuration_error),
    case!(Config, an_unknown_option_is_an_error_that_names_it),
    case!(Config, an_option_of_a_wrong_type_is_a_configuration_error),
];

/// The error of opening with `options`.
fn refused(s: &Subject, options: &[u8], what: &str) -> Result<BackendError, Failure> {
    let Some(opened) = s.harness().open_with_options(options) else {
        return Err(Failure::NotAsked("the harness cannot open with options".into()));
    };
    let Err(error) = opened else { return Err(Failure::Refuted(format!("opened with {what}"))) };
    ensure!(error.kind() == Kind::Config, "{what} is no configuration error, but: {error}");
    ensure!(!error.message().trim().is_empty(), "{what} is refused without a reason");
    Ok(error)
}

fn garbage_is_a_configuration_error(s: &Subject) -> Result<(), Failure> {
    let deep = "[".repeat(100_000);
    let garbage: [&[u8]; 13] = [
        b"{",
        b"}",
        b"{]",
        b"null",
        b"42",
        b"\"text\"",
        b"[]x",
        b"{} {}",
        b"{\"a\":}",
        b"\0",
        b"\xff\xfe",
        b"not json",
        deep.as_bytes(),
    ];
    for (number, options) in garbage.into_iter().enumerate() {
        refused(s, options, &format!("garbage {number}"))?;
    }
    Ok(())
}

fn an_unknown_option_is_an_error_that_names_it(s: &Subject) -> Result<(), Failure> {
    const UNKNOWN: &str = "no_store_has_this_option";
    let error = refused(s, json!({ UNKNOWN: 1 }).to_string().as_bytes(), "an unknown option")?;
    ensure!(error.message().contains(UNKNOWN), "an unknown option is refused, but not named: {error}");
    Ok(())
}

fn an_option_of_a_wrong_type_is_a_configuration_error(s: &Subject) -> Result<(), Failure> {
    let Some(schema) = s.harness().options_schema() else {
        return Err(Failure::NotAsked("the harness does not know the schema of the options".into()));
    };
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Err(Failure::NotAsked("the backend has no options".into()));
    };
    let mut tried = 0;
    for (name, property) in properties {
        // Options of more than one shape are left out: no value is surely wrong for them.
        let types: Vec<&str> = match property.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => continue,
        };
        let wrong = if types.contains(&"object") { json!([[]]) } else { json!({ "": {} }) };
        refused(s, json!({ name: wrong }).to_string().as_bytes(), &format!("a wrong type for `{name}`"))?;
        tried += 1;
    }
    if tried == 0 { Err(Failure::NotAsked("the schema tells no types".into())) } else { Ok(()) }
}
