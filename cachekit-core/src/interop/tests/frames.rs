//! Entries of Python's default mode: `standard_serializer.json`.

use serde_json::{Value as Json, json};

use super::{bytes, comes_back_as, document, list, shown, text};
use crate::interop::{
    Class, Frame, FrameHeader, InteropValue, StandardFormat, hex, look_at_arrow, look_at_auto, look_at_orjson,
    read_envelope, read_standard, typed_json, write_envelope, write_standard,
};

const LIMIT: u64 = 64 << 20;

fn format(integrity: bool) -> StandardFormat<'static> {
    StandardFormat { integrity, secure: None, max_payload: LIMIT }
}

#[test]
fn every_value_of_the_default_serializer_is_written_and_read() {
    for entry in list(&document("standard_serializer"), "vectors", 40) {
        let name = text(&entry, "name");
        let value = typed_json::to_value(&entry["value"]).unwrap();
        let packed = write_standard(&value).unwrap();
        assert_eq!(hex(&packed), text(&entry, "msgpack_hex"), "{name}");
        assert_eq!(hex(&format(false).write("k", &value).unwrap()), text(&entry, "frame_integrity_off_hex"), "{name}");

        let theirs = bytes(&entry, "frame_integrity_on_hex");
        let ours = format(true).write("k", &value).unwrap();
        let payload = Frame::parse(&theirs).unwrap().payload;
        assert_eq!(read_envelope(&payload, LIMIT).unwrap().payload, packed, "{name}");
        let header_len = theirs.len() - payload.len();
        assert_eq!(ours[..header_len], theirs[..header_len], "{name}");
        assert_eq!(hex(&payload), text(&entry, "envelope_hex"), "{name}");

        for frame in [theirs, ours] {
            let read = format(true).read("k", &frame);
            if entry["decode_error"].is_object() {
                assert_eq!(read.unwrap_err().class(), Class::Corrupt, "{name}");
                continue;
            }
            match (&entry["decodes_to"], read.unwrap()) {
                (Json::String(nan), InteropValue::Float(value)) if nan == "nan" => assert!(value.is_nan()),
                (expected, value) => assert_eq!(shown(&value), comes_back_as(expected), "{name}"),
            }
        }
    }
}

#[test]
fn frames_are_taken_as_python_takes_them() {
    for entry in list(&document("standard_serializer"), "frames", 23) {
        let answer = format(!text(&entry, "reader").contains("integrity off")).read("k", &bytes(&entry, "hex"));
        super::judged(&entry, &answer);
        match answer {
            Ok(value) => assert_eq!(shown(&value), comes_back_as(&entry["value"]), "{}", entry["name"]),
            Err(error) => {
                let suspicious = text(&entry["error"], "class") == "SuspiciousCacheEntryError";
                let class = if suspicious { Class::Tampered } else { Class::Corrupt };
                assert_eq!(error.class(), class, "{}: {error}", entry["name"]);
            }
        }
    }
}

#[test]
fn entries_of_the_auto_serializer_can_be_looked_at() {
    for entry in list(&document("standard_serializer"), "auto_serializer", 12) {
        for (payload, metadata) in
            [("payload_hex_integrity_on", "metadata_on"), ("payload_hex_integrity_off", "metadata_off")]
        {
            let header = json!({ "s": "auto", "m": entry[metadata], "v": "2.0" }).to_string();
            let stored =
                [b"CK\x03", &(header.len() as u32).to_be_bytes()[..], header.as_bytes(), &bytes(&entry, payload)];
            let stored = stored.concat();
            let frame = Frame::parse(&stored).unwrap();
            let (plain, value) = look_at_auto(&frame.header, &frame.payload, LIMIT).unwrap();
            assert_eq!(hex(&plain), text(&entry, "payload_hex_integrity_off"), "{}", entry["name"]);
            assert_eq!(value, entry["value"], "{}", entry["name"]);
        }
    }
}

#[test]
fn entries_of_orjson_and_arrow_can_be_looked_at() {
    for entry in list(&document("standard_serializer"), "orjson", 3) {
        let expected: Json = serde_json::from_slice(&bytes(&entry, "hex_integrity_off")).unwrap();
        for field in ["hex_integrity_on", "hex_integrity_off"] {
            let (plain, value) = look_at_orjson(&bytes(&entry, field)).unwrap();
            assert_eq!((hex(&plain).as_str(), &value), (text(&entry, "hex_integrity_off"), &expected));
        }
        let mut damaged = bytes(&entry, "hex_integrity_on");
        damaged[0] ^= 1;
        assert!(look_at_orjson(&damaged).is_err());
    }
    let file = b"ARROW1\0\0 table ARROW1";
    let stored = [&crate::interop::checksum(file)[..], file].concat();
    assert_eq!(look_at_arrow(&stored).unwrap().0, file);
    assert!(look_at_arrow(&stored[..stored.len() - 1]).is_err());
    assert!(look_at_arrow(b"").is_err());
}

#[test]
fn a_plain_value_that_looks_like_a_map_of_a_date_keeps_its_company() {
    // The default serializer revives exactly two keys, interop mode any number.
    let map = InteropValue::Map(vec![
        ("__date__".into(), true.into()),
        ("value".into(), "2024-01-15".into()),
        ("x".into(), 1_u8.into()),
    ]);
    assert_eq!(read_standard(&write_standard(&map).unwrap()).unwrap(), map);
}

#[test]
fn an_envelope_is_never_taken_for_a_value() {
    let envelope = write_envelope(b"\x01", "msgpack").unwrap();
    let header = FrameHeader::standard(false, None);
    let frame = Frame { header, payload: envelope.into() }.to_bytes().unwrap();
    assert!(format(false).read("k", &frame).is_err());
}
