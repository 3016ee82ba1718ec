//! `docs/envelope.md` is read by people who write other readers: what it says is checked, byte by byte.

use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/envelope.md");

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Person {
    name: String,
    age: u8,
}

/// The example's bytes. Its lines read `offset  hex bytes  | meaning`; each offset must be the sum of what came before.
fn example() -> Vec<u8> {
    let (_, rest) = DOCUMENT.split_once("```hex\n").expect("the document has an example");
    let (block, _) = rest.split_once("```").expect("the example ends");
    let mut bytes = Vec::new();
    for line in block.lines() {
        let (left, _) = line.split_once('|').expect("a meaning on each line");
        let mut words = left.split_whitespace();
        let offset: usize = words.next().expect("an offset").parse().expect("a decimal offset");
        assert_eq!(offset, bytes.len(), "{line}");
        bytes.extend(words.map(|word| u8::from_str_radix(word, 16).expect("hex")));
    }
    bytes
}

#[test]
fn the_example_is_what_the_codec_writes_and_reads() {
    let times = Times {
        created_ms: 1_700_000_000_000,
        fresh_for_ms: 60_000,
        stale_until_ms: 1_700_000_090_000,
        expires_ms: 1_700_000_120_000,
    };
    let meta = Meta { times, load_cost_us: 2_500, namespace_epoch: 0x1122_3344_5566_7788, is_nothing: false };
    let tags = [Tag { name: b"team:7", epoch: 0x0102_0304_0506_0708 }];
    let entry = NewEntry { wire_key: b"ck:users:42", meta, tags: &tags };
    let ada = Person { name: "Ada".to_owned(), age: 36 };
    let stored = Codec::default().encode(&entry, &ada).unwrap();
    let example = example();
    assert!(stored[..] == example[..], "wrote {stored:02x?}");
    let opened = Codec::default().open(&example.into(), b"ck:users:42", 1_700_000_000_000).unwrap();
    assert_eq!(opened.decode::<Person>(), Ok(ada));
    assert_eq!(*opened.meta(), meta);
}

#[test]
fn the_table_of_fields_has_no_gap_and_ends_with_the_header() {
    let (_, rest) = DOCUMENT.split_once("| offset | size |").expect("the document has a table");
    let mut end = 0;
    for row in rest.lines().skip(2).take_while(|row| row.starts_with('|')) {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let (Some(offset), Some(size)) = (cells.next(), cells.next()) else { panic!("{row}") };
        let Ok(offset) = offset.parse::<usize>() else { break };
        assert_eq!(offset, end, "{row}");
        end += size.parse::<usize>().expect("a size");
    }
    assert_eq!(end, HEADER_LEN);
}

#[test]
fn the_limits_named_are_the_limits_kept() {
    for limit in ["127 levels", "100 MiB", "5 s", "1 KiB", "1/16"] {
        assert!(DOCUMENT.contains(limit), "{limit}");
    }
    assert_eq!((MAX_DEPTH, DEFAULT_MAX_VALUE, SKEW_ALLOWANCE_MS, DEFAULT_THRESHOLD), (127, 100 << 20, 5_000, 1 << 10));
}

#[test]
fn the_checksum_is_xxh3_64_with_seed_0_as_others_compute_it() {
    // Known answers of the reference implementation, on both sides of its changes of method at 240 and 1024 bytes.
    for (payload, sum) in [
        (vec![], 0x2d06_8005_38d3_94c2),
        (vec![0x6b; 128], 0x433c_f1c6_e51e_58e8),
        (vec![0x71; 256], 0xc343_7dc5_eb8a_d9da),
        (vec![0x7a; 65_535], 0x33c0_2d7d_a800_c0f2u64),
    ] {
        let entry = [&[0xff; 16][..], &payload].concat();
        assert_eq!(super::super::envelope::checksum(&entry), sum, "{} bytes", payload.len());
    }
}
