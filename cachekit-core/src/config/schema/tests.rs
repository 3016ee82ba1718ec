//! What is refused, in which words, and that no value is among them.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn check(schema: &Json, options: Json) -> Result<(), String> {
    let Json::Object(options) = options else { panic!("options are a table") };
    Schema::new(schema).check(&options).map_err(|wrong| format!("{}: {}", wrong.place, wrong.reason))
}

/// As `schemars` writes it, with everything that is judged.
fn store() -> Json {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "table": { "type": "string", "minLength": 3, "maxLength": 8, "description": "Name of the table. Made if missing." },
            "connections": { "type": ["integer", "null"], "format": "uint32", "minimum": 1, "maximum": 64 },
            "port": { "type": "integer", "format": "uint16" },
            "timeout": { "type": "number", "exclusiveMinimum": 0, "maximum": 600.0 },
            "create": { "type": "boolean" },
            "mode": { "$ref": "#/$defs/Mode" },
            "token": { "anyOf": [{ "$ref": "#/$defs/SecretRef" }, { "type": "null" }] },
            "pin": { "type": "string", "x-secret": true },
            "servers": { "type": "array", "minItems": 1, "maxItems": 2, "items": { "$ref": "#/$defs/Server" } },
            "headers": { "type": "object", "additionalProperties": { "type": "string" } }
        },
        "required": ["table"],
        "additionalProperties": false,
        "$defs": {
            "Mode": { "oneOf": [
                { "type": "string", "const": "fast", "description": "Quickly." },
                { "type": "string", "const": "safe", "description": "Surely." }
            ] },
            "SecretRef": {
                "type": "object", "properties": { "$secret": { "type": "string" } }, "required": ["$secret"],
                "additionalProperties": false, "x-secret": true
            },
            "Server": {
                "type": "object", "properties": { "host": { "type": "string" }, "port": { "type": "integer" } },
                "required": ["host"], "additionalProperties": false
            }
        }
    })
}

#[test]
fn options_that_fit_are_taken() {
    for options in [
        json!({ "table": "cache" }),
        json!({
            "table": "cache", "connections": 64, "port": 65535, "timeout": 600, "create": false, "mode": "safe",
            "token": { "$secret": "env:TOKEN" }, "pin": { "$secret": "file:/run/secrets/pin" },
            "servers": [{ "host": "a", "port": 1 }, { "host": "b" }], "headers": { "X-Any": "thing" }
        }),
    ] {
        assert_eq!(check(&store(), options), Ok(()));
    }
}

#[test]
fn what_does_not_fit_is_named_with_what_does() {
    for (options, expected) in [
        (json!({ "table": 7 }), ".table: a whole number stands where text (Name of the table) belongs"),
        (json!({ "table": "ab" }), ".table: it has 2 characters, and must have 3 to 8"),
        (json!({ "tabel": "cache" }), ".tabel: there is no such option; did you mean table?"),
        (json!({ "table": "cache", "colour": 1 }), ".colour: there is no such option; there are connections, create,"),
        (json!({}), ".table: it is missing, and must be text (Name of the table)"),
        (json!({ "table": "cache", "connections": 0 }), ".connections: it must be a whole number from 1 to 64"),
        (json!({ "table": "cache", "connections": 1.5 }), ".connections: a number with a point stands where a whole"),
        (json!({ "table": "cache", "port": 65536 }), ".port: it must be a whole number from 0 to 65535"),
        (json!({ "table": "cache", "port": -1 }), ".port: it must be a whole number from 0 to 65535"),
        (json!({ "table": "cache", "timeout": 0 }), ".timeout: it must be a number of at most 600.0, above 0"),
        (json!({ "table": "cache", "create": "yes" }), ".create: text stands where true or false belongs"),
        (json!({ "table": "cache", "mode": "slow" }), r#".mode: it must be one of "fast", "safe""#),
        (json!({ "table": "cache", "servers": [] }), ".servers: it has 0 items, and must have 1 to 2"),
        (json!({ "table": "cache", "servers": [{ "host": "a" }, { "port": 1 }] }), ".servers[1].host: it is missing"),
        (json!({ "table": "cache", "servers": [{ "host": "a", "prot": 1 }] }), ".servers[0].prot: there is no such"),
        (json!({ "table": "cache", "headers": { "X": 1 } }), ".headers.X: a whole number stands where text belongs"),
    ] {
        let error = check(&store(), options.clone()).expect_err(&options.to_string());
        assert!(error.starts_with(expected), "{options}: {expected:?} does not begin {error:?}");
    }
}

#[test]
fn single_options_can_be_asked_about() {
    let schema = store();
    let takes = |option, value| Schema::new(&schema).takes(option, &value);
    assert!(takes("table", json!("1234")) && !takes("table", json!(1234)));
    assert!(takes("connections", json!(3)) && !takes("colour", json!(3)));
}

#[test]
fn a_secret_is_named_and_what_was_written_in_its_place_is_not_repeated() {
    for wrong in [
        json!("hunter2"),
        json!({ "$secret": "hunter2" }),
        json!({ "$secret": "env:" }),
        json!({ "$secret": "file:hunter2" }),
        json!({ "$secret": "vault:hunter2" }),
        json!({ "$secret": "env:X", "also": "hunter2" }),
        json!({ "$secret": ["hunter2"] }),
        json!(["hunter2"]),
    ] {
        for name in ["token", "pin"] {
            let error = check(&store(), json!({ "table": "cache", name: wrong })).expect_err(&wrong.to_string());
            assert!(error.starts_with(&format!(".{name}: a secret is named here and never written")), "{error}");
            assert!(error.contains("env:NAME") && !error.contains("hunter2"), "{error}");
        }
    }
}

#[test]
fn no_value_is_repeated_whatever_is_wrong_with_it() {
    for options in [
        json!({ "table": ["hunter2"] }),
        json!({ "table": "hunter2hunter2" }),
        json!({ "table": "cache", "mode": "hunter2" }),
        json!({ "table": "cache", "port": "hunter2" }),
        json!({ "table": "cache", "servers": ["hunter2"] }),
    ] {
        let error = check(&store(), options).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn what_a_schema_says_beyond_is_left_to_the_plugin_and_listed() {
    let schema = json!({
        "properties": { "name": { "type": "string", "pattern": "^a$", "x-hint": 1 } },
        "patternProperties": { "^x": false }, "if": {}, "$ref": "https://example.org/elsewhere"
    });
    assert_eq!(check(&schema, json!({ "name": "b", "xyz": 1 })), Ok(()));
    let unjudged = Schema::new(&schema).unjudged();
    assert_eq!(unjudged.into_iter().collect::<Vec<_>>(), ["if", "pattern", "patternProperties"]);
    assert!(Schema::new(&store()).unjudged().is_empty());
}

#[test]
fn a_schema_without_end_comes_to_one() {
    let around = json!({ "$ref": "#" });
    assert_eq!(check(&around, json!({ "a": 1 })), Ok(()));
    let twice = json!({ "anyOf": [{ "allOf": [{ "$ref": "#" }, { "$ref": "#" }] }, { "$ref": "#" }, false] });
    assert_eq!(check(&twice, json!({ "a": 1 })), Ok(()));
    let nothing = json!({ "properties": { "a": false } });
    assert_eq!(check(&nothing, json!({ "a": 1 })).unwrap_err(), ".a: nothing is accepted here");
}

#[test]
fn names_and_texts_of_others_move_no_cursor() {
    let schema = json!({ "type": "object", "additionalProperties": false, "properties": { "\u{1b}[2Ja": {} } });
    let error = check(&schema, json!({ "\u{1b}[31m": 1 })).unwrap_err();
    assert!(!error.contains('\u{1b}'), "{error:?}");
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[a-z#$/]{0,6}".prop_map(Json::from)
    ];
    let names = prop_oneof![
        "[a-z]{1,3}",
        Just("type".to_owned()),
        Just("properties".into()),
        Just("items".into()),
        Just("anyOf".into()),
        Just("$ref".into()),
        Just("required".into()),
        Just("minimum".into()),
        Just("enum".into()),
        Just("x-secret".into())
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::btree_map(names.clone(), inner, 0..6)
                .prop_map(|map| Json::Object(map.into_iter().collect()))
        ]
    })
}

proptest! {
    #[test]
    fn no_schema_and_no_options_make_it_panic(schema in any_json(), options in any_json()) {
        let options = Map::from_iter([("a".to_owned(), options)]);
        let schema = json!({ "properties": { "a": schema.clone() }, "allOf": [schema] });
        let checked = Schema::new(&schema);
        let _ = (checked.check(&options), checked.unjudged());
    }
}
