//! What must be refused: the areas of `errors.json` that are about formats.

use serde_json::{Value as Json, json};

use super::{DIFFERENCES, document, text};
use crate::interop::{
    Argument, Class, DefaultKey, InteropError, InteropValue, NdArray, StandardFormat, canonical_value, hex,
    interop_key, read_envelope, typed_json, write_standard,
};

/// Inputs that the file only describes. `None`: Rust has no such thing, so nobody can give it.
fn described(name: &str) -> Option<Vec<Argument>> {
    let array = |dtype: &str, shape: &[u64], len: usize| {
        Argument::NdArray(NdArray { dtype: dtype.into(), shape: shape.into(), bytes: vec![0; len] })
    };
    let one = |argument| Some(vec![argument]);
    let nan = Argument::Float(f64::NAN);
    match name {
        "set" => one(Argument::Set(vec![Argument::Int(1), Argument::Int(2)])),
        "frozenset" => one(Argument::Set(vec![Argument::Int(1)])),
        "naive_datetime" => one(Argument::DateTime("2024-01-01T00:00:00".parse().unwrap())),
        "date" => one(Argument::Date("2024-01-01".parse().unwrap())),
        "uuid" => one(Argument::Uuid([1; 16])),
        "decimal" => one(Argument::Decimal("1".into())),
        "path" => one(Argument::Path("a".into())),
        "enum" => one(Argument::Enum(Box::new("red".into()))),
        "ndarray" => one(array("int64", &[1], 8)),
        "ndarray_2d" => one(array("float64", &[2, 2], 32)),
        "ndarray_dtype" => one(array("int16", &[1], 2)),
        "ndarray_too_big" => one(array("float64", &[12_501], 100_008)),
        "ndarray_100000_bytes_ok" => one(array("float64", &[12_500], 100_000)),
        "int_too_big" => one(Argument::Int(1 << 64)),
        "mixed_dict_keys" => {
            one(Argument::Map(vec![(Argument::Int(1), Argument::Int(1)), ("a".into(), Argument::Int(2))]))
        }
        "bytearray" | "bytearray_ok" => one(Argument::Bytes(b"a".to_vec())),
        "aggregate_over_5MB" => Some(vec![array("float64", &[12_500], 100_000); 51]),
        "nan_nested" => one(Argument::Array(vec![Argument::Map(vec![("a".into(), Argument::Array(vec![nan]))])])),
        "set_with_nan" => one(Argument::Set(vec![nan])),
        // A type of another language, or text that UTF-8 cannot hold.
        "custom" | "complex" | "lone_surrogate" => None,
        other => panic!("{other} is not described here"),
    }
}

fn arguments(case: &Json) -> Option<Result<Vec<Argument>, InteropError>> {
    let input = &case["input"];
    if let Some(name) = input["described"].as_str() {
        return described(name).map(Ok);
    }
    if text(case, "name") == "aggregate_over_5MB" {
        return described("aggregate_over_5MB").map(Ok);
    }
    (input["$t"] != "opaque").then(|| typed_json::to_argument(input).map(|argument| vec![argument]))
}

fn as_value(arguments: &[Argument]) -> Result<InteropValue, InteropError> {
    // Through the typed form, as the program takes values.
    let [argument] = arguments else { panic!("one value") };
    match argument {
        Argument::Set(_) => typed_json::to_value(&json!({ "$t": "set", "v": [] })),
        Argument::Uuid(_) => typed_json::to_value(&json!({ "$t": "uuid", "v": "0".repeat(32) })),
        Argument::Decimal(text) => typed_json::to_value(&json!({ "$t": "decimal", "v": text })),
        Argument::Path(text) => typed_json::to_value(&json!({ "$t": "path", "v": text })),
        Argument::Enum(_) => typed_json::to_value(&json!({ "$t": "enum", "v": "red" })),
        Argument::NdArray(_) => {
            typed_json::to_value(&json!({ "$t": "ndarray", "dtype": "int64", "shape": [0], "hex": "" }))
        }
        Argument::Bytes(bytes) => Ok(InteropValue::Bytes(bytes.clone())),
        Argument::Int(value) => Ok(InteropValue::Int(*value)),
        Argument::Array(items) if items.is_empty() => Ok(InteropValue::Array(vec![])),
        Argument::Array(items) => items
            .iter()
            .map(|item| as_value(std::slice::from_ref(item)))
            .collect::<Result<_, _>>()
            .map(InteropValue::Array),
        Argument::Map(entries) => {
            let entry = |(key, value): &(Argument, Argument)| {
                let Argument::Str(key) = key else { panic!("text") };
                Ok((InteropValue::Str(key.clone()), as_value(std::slice::from_ref(value))?))
            };
            entries.iter().map(entry).collect::<Result<_, InteropError>>().map(InteropValue::Map)
        }
        Argument::Float(value) => Ok(InteropValue::Float(*value)),
        other => panic!("{other:?}"),
    }
}

/// `None`: nobody can ask for it here.
fn ask(case: &Json) -> Option<Result<String, InteropError>> {
    let name = text(case, "name");
    Some(match text(case, "area") {
        "segment" => {
            let input = text(case, "input");
            let (namespace, operation) = if name == "namespace" { (input, "op") } else { ("users", input) };
            interop_key(namespace, operation, &[])
        }
        "interop_arg" => arguments(case)?.and_then(|arguments| interop_key("users", "op", &arguments)),
        "interop_value" => {
            let value = match case["input"]["described"].as_str() {
                Some(_) => as_value(&arguments(case)?.unwrap()),
                None if case["input"]["$t"] == "opaque" => return None,
                None => typed_json::to_value(&case["input"]),
            };
            value.and_then(|value| canonical_value(&value)).map(|bytes| hex(&bytes))
        }
        "default_key_arg" => {
            let serializer = match name {
                "serializer_empty" => "",
                // There is no text that is no text.
                "serializer_not_str" => return None,
                _ => "default",
            };
            let args = if name.starts_with("serializer") { Ok(vec![]) } else { arguments(case)? };
            let key = |args: Vec<Argument>| {
                DefaultKey {
                    module: "m",
                    qualname: "f",
                    namespace: None,
                    integrity: true,
                    serializer,
                    args: &args,
                    kwargs: &[],
                }
                .key()
            };
            args.and_then(key)
        }
        _ if name == "deep_600" => {
            let nested = |inner, _| InteropValue::Array(vec![inner]);
            write_standard(&(0..600).fold(InteropValue::Array(vec![]), nested)).map(|packed| hex(&packed))
        }
        _ => {
            let value = arguments(case)?.and_then(|arguments| as_value(&arguments));
            value.and_then(|value| write_standard(&value)).map(|packed| hex(&packed))
        }
    })
}

#[test]
fn everything_that_python_refuses_is_refused_and_nothing_else() {
    let areas = [
        ("segment", 32),
        ("interop_arg", 22),
        ("interop_value", 29),
        ("default_key_arg", 17),
        ("standard_serialize", 12),
    ];
    let cases = document("errors")["cases"].as_array().unwrap().clone();
    let (mut impossible, mut differing) = (0, Vec::new());
    for (area, expected) in areas {
        let of_area: Vec<&Json> = cases.iter().filter(|case| case["area"] == area).collect();
        assert_eq!(of_area.len(), expected, "{area}");
        for case in of_area {
            let id = format!("errors/{area}/{}", text(case, "name"));
            let Some(answer) = ask(case) else {
                assert_eq!(case["ok"], false, "{id} is accepted by Python");
                impossible += 1;
                continue;
            };
            if answer.is_ok() != (case["ok"] == true) {
                differing.push(id);
                continue;
            }
            match answer {
                Err(error) => assert_eq!(error.class(), Class::Usage, "{id}: {error}"),
                Ok(ours) if area == "standard_serialize" => {
                    // An envelope, whose block is not canonical.
                    let envelope = crate::interop::unhex(text(case, "result")).unwrap();
                    assert_eq!(ours, hex(&read_envelope(&envelope, 1 << 20).unwrap().payload), "{id}");
                }
                Ok(ours) => assert_eq!(ours, text(case, "result"), "{id}"),
            }
        }
    }
    let listed: Vec<&str> = DIFFERENCES.iter().map(|(id, _)| *id).collect();
    assert_eq!(differing, listed);
    assert_eq!(impossible, 19, "cases without a counterpart in Rust");
}

#[test]
fn the_deepest_value_that_python_writes_is_written() {
    let deep = (0..600).fold(InteropValue::Array(vec![]), |inner, _| InteropValue::Array(vec![inner]));
    let format = StandardFormat { integrity: true, secure: None, max_payload: 1 << 20 };
    assert_eq!(format.read("k", &format.write("k", &deep).unwrap()).unwrap(), deep);
}
