//! Settings of freshness, guards, locks and writes behind: their ranges, and where they came from.

use super::*;

#[test]
fn what_invalidation_cannot_use_is_refused_with_its_forms() {
    for (line, expected) in [
        ("invalidation.namespace_epochs = \"always\"", "none of auto, on, off"),
        ("invalidation.epoch_ttl = \"0s\"", "1s to 10years"),
        ("invalidation.epoch_ttl = \"11years\"", "1s to 10years"),
    ] {
        let text = words(from_toml(&format!("{line}\n")));
        assert!(text.contains("invalidation.") && text.contains(expected) && text.contains(":1"), "{text}");
    }
    assert!(words(from_toml("invalidation.epoch = \"1s\"\n")).contains("epoch"));
}

#[test]
fn every_setting_of_freshness_reaches_the_cache_and_is_shown() {
    let text = "freshness = { stale = \"1m\", stale_if_error = \"1h\", refresh_ahead = true, refresh_ahead_at = 0.7, \
                early_refresh = 1.5, jitter = 0.2, soft_timeout = \"100ms\", hard_timeout = \"5s\", negative_ttl = \"9s\", \
                extend_on_get = 0.25, max_refreshes = 7, retry_interval = \"3s\", get_serves_stale = true }\n";
    let config = from_toml(text).unwrap();
    let secs = |secs| Some(std::time::Duration::from_secs(secs));
    let expected = crate::fresh::FreshnessConfig {
        stale: secs(60),
        stale_if_error: secs(3600),
        refresh_ahead: Some(0.7),
        early_refresh: Some(1.5),
        jitter: 0.2,
        soft_timeout: Some(std::time::Duration::from_millis(100)),
        hard_timeout: secs(5),
        negative_ttl: secs(9),
        extend_on_get: Some(0.25),
        max_refreshes: 7,
        retry_interval: std::time::Duration::from_secs(3),
        get_serves_stale: true,
    };
    assert_eq!(config.freshness.to_config(), expected);
    let shown = config.show();
    assert_eq!(shown["freshness.stale"].value, "1m");
    assert!(shown.iter().filter(|(name, _)| name.starts_with("freshness.")).all(|(_, s)| s.source.ends_with(":1")));
    assert_eq!(shown.keys().filter(|name| name.starts_with("freshness.")).count(), 13);
}

#[test]
fn settings_of_freshness_out_of_range_are_refused_with_the_range() {
    for (line, expected) in [
        ("freshness.jitter = 0.6", "0 to 0.5"),
        ("freshness.jitter = nan", "0 to 0.5"),
        ("freshness.refresh_ahead_at = nan", "between 0 and 1"),
        ("freshness.refresh_ahead_at = 1.0", "between 0 and 1"),
        ("freshness.early_refresh = -1.0", "above 0"),
        ("freshness.early_refresh = inf", "above 0"),
        ("freshness.extend_on_get = 0.0", "between 0 and 1"),
        ("freshness.max_refreshes = 0", "1 to 10000"),
        ("freshness.soft_timeout = \"0s\"", "more than zero"),
        ("freshness.stale = \"soon\"", "no duration"),
    ] {
        let text = words(from_toml(&format!("{line}\n")));
        assert!(text.contains("freshness.") && text.contains(expected) && text.contains(":1"), "{text}");
    }
    assert!(words(from_toml("freshness.stail = \"1s\"\n")).contains("stail"));
}

#[test]
fn writes_behind_are_off_until_the_file_says_otherwise_and_their_bounds_are_checked() {
    assert!(!Config::default().write_behind.enabled.value);
    let toml = "[write_behind]\nenabled = true\nmax_bytes = \"1MiB\"\nmax_entries = 7\nattempts = 0\npause = \"1ms\"\n";
    let config = from_toml(toml).unwrap();
    let behind = &config.write_behind;
    assert!(behind.enabled.value);
    assert_eq!((behind.max_bytes.value, behind.max_entries.value, behind.attempts.value), (1 << 20, 7, 0));
    let shown = config.show();
    assert_eq!(shown.keys().filter(|name| name.starts_with("write_behind.")).count(), 5);
    assert_eq!(shown["write_behind.max_entries"].value, 7);
    for (line, expected) in [
        ("write_behind.max_bytes = 0", "at least 1 byte"),
        ("write_behind.max_entries = 0", "write_behind.enabled = false"),
        ("write_behind.attempts = 101", "0 to 100"),
        ("write_behind.pause = \"0s\"", "at most 5s"),
        ("write_behind.pause = \"6s\"", "at most 5s"),
    ] {
        let text = words(from_toml(&format!("{line}\n")));
        assert!(text.contains("write_behind.") && text.contains(expected) && text.contains(":1"), "{text}");
    }
    assert!(words(from_toml("write_behind.max_byte = 1\n")).contains("max_byte"));
}

#[test]
fn fill_locks_out_of_range_are_refused_with_the_range() {
    for (line, expected) in [
        ("fill_locks.hold = \"9ms\"", "10ms to 1h"),
        ("fill_locks.hold = \"2h\"", "10ms to 1h"),
        ("fill_locks.patience = \"2h\"", "longer than 1h"),
        ("fill_locks.hold = \"soon\"", "no duration"),
    ] {
        let text = words(from_toml(&format!("{line}\n")));
        assert!(text.contains("fill_locks.") && text.contains(expected) && text.contains(":1"), "{text}");
    }
    assert!(words(from_toml("fill_locks.hald = \"1s\"\n")).contains("hald"));
}

#[test]
fn numbers_of_guards_that_cannot_work_are_refused_with_field_line_and_accepted_form() {
    for (toml, field, accepted) in [
        ("bulkhead = { in_flight = 0 }", "bulkhead.in_flight", "from 1 to 1000000"),
        ("bulkhead = { in_flight = 4294967295 }", "bulkhead.in_flight", "from 1 to 1000000"),
        ("bulkhead = { in_flight = -1 }", "bulkhead.in_flight", "no whole number from 0"),
        ("bulkhead = { in_flight = 99999999999 }", "bulkhead.in_flight", "no whole number from 0"),
        ("bulkhead = { queued = 1.5 }", "bulkhead.queued", "no whole number from 0"),
        ("bulkhead = { queued = nan }", "bulkhead.queued", "must be a whole number"),
        ("bulkhead = { queued = \"many\" }", "bulkhead.queued", "must be a whole number"),
        ("bulkhead = { wait = \"0s\" }", "bulkhead.wait", "longer than zero"),
        ("bulkhead = { wait = 5 }", "bulkhead.wait", "must be a duration in quotes"),
        ("bulkhead = { wait = \"NaN\" }", "bulkhead.wait", "no duration such as"),
        ("bulkhead = { wait = \"-1s\" }", "bulkhead.wait", "no duration such as"),
        ("breaker = { failures = 0 }", "breaker.failures", "from 1 to 10000"),
        ("breaker = { probes = 2 }", "breaker.probes", "at least successes"),
        ("breaker = { successes = 4 }", "breaker.probes", "at least successes"),
        ("breaker = { open = \"0s\" }", "breaker.open", "not longer than open_max"),
        ("breaker = { open_max = \"1ms\" }", "breaker.open", "not longer than open_max"),
        ("breaker = { window = \"0s\" }", "breaker.window", "at least 1 ms"),
        ("breaker = { enabled = \"yes\" }", "breaker.enabled", "true or false"),
        ("retry = { tries = 1 }", "retry.tries", "from 2 to 10"),
        ("retry = { tries = 1000000 }", "retry.tries", "from 2 to 10"),
        ("retry = { budget_percent = 101 }", "retry.budget_percent", "from 1 to 100"),
        ("retry = { pause = \"0ms\" }", "retry.pause", "longer than zero"),
        ("retry = { pauze = \"1ms\" }", "retry.pauze", "there are enabled, tries, pause, pause_max, budget_percent"),
        ("adaptive_timeout = { min = \"1ms\" }", "adaptive_timeout.min", "at least 20 ms"),
        ("adaptive_timeout = { factor = 1 }", "adaptive_timeout.factor", "from 2 to 100"),
        ("adaptive_timeout = { enabled = false, factor = 1 }", "adaptive_timeout.factor", "from 2 to 100"),
    ] {
        let text = words(from_toml(&format!("namespace = \"n\"\n{toml}\n")));
        assert!(text.contains(field) && text.contains(":2)") && text.contains(accepted), "{toml}: {text}");
    }
    let text = words(from_toml("bulkhead = 7\n"));
    assert!(text.contains("bulkhead") && text.contains("line 1") && text.contains("true, false, or a table"), "{text}");
    assert!(words(from_toml("bulkheads = true\n")).contains("unknown field `bulkheads`"));
}

#[test]
fn a_guard_is_a_word_or_a_table_and_shows_where_it_came_from() {
    let shown = from_toml("retry = false\n[breaker]\nfailures = 9\nopen_max = \"1m\"\n[bulkhead]\nenabled = false\n");
    let shown = shown.unwrap().show();
    let value = |name: &str| (shown[name].value.clone(), shown[name].source.rsplit(':').next().unwrap().to_owned());
    assert_eq!(value("retry"), (json!(false), "1".into()));
    assert_eq!(value("breaker"), (json!(true), "2".into()));
    assert_eq!(value("breaker.failures"), (json!(9), "3".into()));
    assert_eq!(value("breaker.open_max"), (json!("1m"), "4".into()));
    assert_eq!(value("bulkhead"), (json!(false), "6".into()));
    assert_eq!(value("bulkhead.in_flight"), (json!(100), "default".into()));
    assert_eq!(value("adaptive_timeout.min"), (json!("50ms"), "default".into()));
}
