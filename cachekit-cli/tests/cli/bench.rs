//! bench: a store measured, its own keys removed.

use crate::program::Home;

#[test]
fn a_bench_shows_percentiles_and_leaves_nothing() {
    let home = Home::new();
    home.run(["set", "mine", "value"]).expect(0);
    let args =
        ["bench", "--duration", "1s", "--warm-up", "10ms", "--deadline", "30s", "--callers", "4", "--keys", "50"];
    let ran = home.run(args).expect(0);
    for word in ["per second", "p50", "p99.9", "max", "get", "set"] {
        assert!(ran.out().contains(word), "{word}: {ran:?}");
    }
    let ran = home.run([&args[..], &["--json", "--work", "get", "--value-size", "0"]].concat()).expect(0).json();
    let get = &ran["operations"]["get"];
    assert!(get["count"].as_u64().unwrap() > 0 && ran["operations"].get("set").is_none(), "{ran}");
    assert!(get["latency_us"]["p50"].as_f64().unwrap() <= get["latency_us"]["max"].as_f64().unwrap(), "{ran}");
    assert_eq!((&ran["errors"], &ran["wrong_values"], &ran["keys_left"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!(home.entry_files().len(), 1);
    assert_eq!(home.run(["get", "mine"]).expect(0).out(), "value");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let home = Home::new();
    let too_large = (u32::MAX as u64 * 64).to_string();
    assert!(home.run(["bench", "--value-size", &too_large]).expect(2).err.contains("the store takes"));
    for wrong in [["--callers", "0"], ["--keys", "0"], ["--reads", "101"], ["--duration", "0"], ["--work", "fly"]] {
        home.run([&["bench"][..], &wrong].concat()).expect(2);
    }
    let file = home.write("file", "");
    let ran = home.run(["bench", "--backend", &format!("file://{}/below", file.display())]).expect(3);
    assert!(!ran.err.is_empty());
}
