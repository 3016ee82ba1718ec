//! The rules of age, one by one: windows, spreads, chances, and knobs and numbers that cannot work.

use std::time::Duration;

use super::verdict::Verdict;
use super::*;
use crate::cache::SetOptions;
use crate::codec::{Meta, Times};

const NOW_MS: u64 = 1_704_067_200_000;
const MINUTE: Duration = Duration::from_secs(60);

fn fresh(config: FreshnessConfig) -> Fresh {
    Fresh::new(config, Some(1))
}

fn meta(times: Times, load_cost_us: u64) -> Meta {
    Meta { times, load_cost_us, ..Meta::default() }
}

#[test]
fn the_windows_follow_each_other_and_the_store_keeps_the_entry_to_the_last_ones_end() {
    let fresh = fresh(FreshnessConfig { stale: Some(MINUTE), stale_if_error: Some(MINUTE), ..FreshnessConfig::off() });
    let times = fresh.times(&SetOptions::default().with_ttl(MINUTE), None, NOW_MS, false).unwrap();
    assert_eq!(times.fresh_for_ms, 60_000);
    assert_eq!(times.stale_until_ms, NOW_MS + 120_000);
    assert_eq!(times.expires_ms, NOW_MS + 180_000);
    for (after_ms, verdict) in [
        (59_999, Verdict::Fresh),
        (60_000, Verdict::Stale),
        (119_999, Verdict::Stale),
        (120_000, Verdict::Fallback),
        (179_999, Verdict::Fallback),
        (180_000, Verdict::Over),
    ] {
        assert_eq!(fresh.verdict(&meta(times, 0), NOW_MS + after_ms, None), verdict, "{after_ms}");
    }
}

#[test]
fn a_write_can_say_otherwise_than_the_cache() {
    let fresh = fresh(FreshnessConfig { stale: Some(MINUTE), ..FreshnessConfig::off() });
    let options = SetOptions::default().with_ttl(MINUTE).with_stale(Duration::ZERO);
    let times = fresh.times(&options, None, NOW_MS, false).unwrap();
    assert_eq!(times, Times { created_ms: NOW_MS, expires_ms: NOW_MS + 60_000, ..Times::default() });
}

#[test]
fn lives_and_windows_that_no_number_holds_end_with_the_longest_and_stay_in_order() {
    let fresh = fresh(FreshnessConfig::default());
    for ttl in
        [Duration::from_nanos(1), Duration::from_millis(1), MINUTE, Duration::from_millis(u64::MAX), Duration::MAX]
    {
        for stale in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            for error in [Duration::ZERO, MINUTE, Duration::MAX] {
                for loaded in [false, true] {
                    let options = SetOptions::default().with_ttl(ttl).with_stale(stale).with_stale_if_error(error);
                    let times = fresh.times(&options, None, NOW_MS, loaded).unwrap();
                    assert!(times.in_order(), "{ttl:?} {stale:?} {error:?} {times:?}");
                    assert_eq!(fresh.verdict(&meta(times, u64::MAX), NOW_MS, None), Verdict::Fresh);
                    for now_ms in [0, NOW_MS - 1, NOW_MS + 1, u64::MAX] {
                        fresh.verdict(&meta(times, u64::MAX), now_ms, Some(100.0));
                        fresh.wants_extension(&times, now_ms);
                        fresh.look_closer_at_ms(&times, || u64::MAX);
                    }
                }
            }
        }
    }
}

#[test]
fn a_life_of_nothing_and_a_window_behind_no_end_are_refused() {
    let fresh = fresh(FreshnessConfig::default());
    let zero = SetOptions::default().with_ttl(Duration::ZERO);
    assert!(matches!(fresh.times(&zero, None, NOW_MS, false), Err(Error::ZeroTtl)));
    let endless = SetOptions::default().without_expiry().with_stale(MINUTE);
    assert!(matches!(
        fresh.times(&endless, Some(MINUTE), NOW_MS, false),
        Err(Error::Freshness { setting: "stale", .. })
    ));
}

#[test]
fn knobs_out_of_their_range_are_refused_by_name() {
    let off = FreshnessConfig::off;
    for (config, named) in [
        (FreshnessConfig { refresh_ahead: Some(f64::NAN), ..off() }, "refresh_ahead"),
        (FreshnessConfig { refresh_ahead: Some(1.0), ..off() }, "refresh_ahead"),
        (FreshnessConfig { refresh_ahead: Some(-0.5), ..off() }, "refresh_ahead"),
        (FreshnessConfig { extend_on_get: Some(0.0), ..off() }, "extend_on_get"),
        (FreshnessConfig { early_refresh: Some(f64::NAN), ..off() }, "early_refresh"),
        (FreshnessConfig { early_refresh: Some(f64::INFINITY), ..off() }, "early_refresh"),
        (FreshnessConfig { early_refresh: Some(0.0), ..off() }, "early_refresh"),
        (FreshnessConfig { jitter: f64::NAN, ..off() }, "jitter"),
        (FreshnessConfig { jitter: 0.51, ..off() }, "jitter"),
        (FreshnessConfig { jitter: -0.1, ..off() }, "jitter"),
        (FreshnessConfig { max_refreshes: 0, ..off() }, "max_refreshes"),
        (FreshnessConfig { soft_timeout: Some(Duration::ZERO), ..off() }, "soft_timeout"),
        (FreshnessConfig { hard_timeout: Some(Duration::ZERO), ..off() }, "hard_timeout"),
        (FreshnessConfig { negative_ttl: Some(Duration::ZERO), ..off() }, "negative_ttl"),
    ] {
        let built = crate::Cache::builder().freshness(config).build();
        assert!(matches!(built, Err(Error::Freshness { setting, .. }) if setting == named), "{named}");
    }
}

#[test]
fn loaded_lives_are_spread_by_a_tenth_and_none_outlives_what_was_asked() {
    let plain = fresh(FreshnessConfig::default());
    let windowed = fresh(FreshnessConfig { stale: Some(MINUTE), ..FreshnessConfig::default() });
    let options = SetOptions::default().with_ttl(MINUTE);
    let (mut shortest, mut longest) = (u64::MAX, 0);
    for _ in 0..10_000 {
        let times = plain.times(&options, None, NOW_MS, true).unwrap();
        assert!((NOW_MS + 54_000..=NOW_MS + 60_000).contains(&times.expires_ms));
        let times = windowed.times(&options, None, NOW_MS, true).unwrap();
        assert!((54_000..=66_000).contains(&times.fresh_for_ms));
        assert_eq!(times.expires_ms, NOW_MS + 120_000);
        (shortest, longest) = (shortest.min(times.fresh_for_ms), longest.max(times.fresh_for_ms));
    }
    assert!(shortest < 54_500 && longest > 65_500, "{shortest} {longest}");
    // What is set, rather than loaded, lives as long as was said.
    assert_eq!(plain.times(&options, None, NOW_MS, false).unwrap().expires_ms, NOW_MS + 60_000);
}

#[test]
fn a_refresh_ahead_is_due_around_its_fraction_and_never_in_a_life_with_a_stale_window() {
    let fresh = fresh(FreshnessConfig::default());
    let times = Times { created_ms: NOW_MS, expires_ms: NOW_MS + 100_000, ..Times::default() };
    let due = |after_ms| {
        (0..1000).filter(|_| fresh.verdict(&meta(times, 0), NOW_MS + after_ms, None) == Verdict::Due).count()
    };
    assert_eq!((due(45_000), due(55_001)), (0, 1000));
    assert!((300..700).contains(&due(50_000)));
    assert_eq!(fresh.look_closer_at_ms(&times, || 0), Some(NOW_MS + 45_000));
    let windowed =
        Times { fresh_for_ms: 100_000, stale_until_ms: NOW_MS + 200_000, expires_ms: NOW_MS + 200_000, ..times };
    assert_eq!(fresh.verdict(&meta(windowed, 0), NOW_MS + 99_999, None), Verdict::Fresh);
}

#[test]
fn early_refreshes_come_before_the_end_as_often_as_the_formula_says() {
    let fresh = fresh(FreshnessConfig { refresh_ahead: None, early_refresh: Some(1.0), ..FreshnessConfig::default() });
    let times = Times { created_ms: NOW_MS, expires_ms: NOW_MS + 100_000, ..Times::default() };
    // A load of one second: at a distance of x seconds the chance is e^-x. With the sign wrong it would be 0 everywhere, or
    // 1.
    let share = |before_ms: u64| {
        let now_ms = NOW_MS + 100_000 - before_ms;
        (0..20_000).filter(|_| fresh.verdict(&meta(times, 1_000_000), now_ms, None) == Verdict::Due).count() as f64
            / 20_000.0
    };
    for (before_ms, expected) in [(500, 0.607), (1_000, 0.368), (2_000, 0.135), (4_000, 0.018)] {
        assert!((share(before_ms) - expected).abs() < 0.02, "{before_ms} {}", share(before_ms));
    }
    assert_eq!(share(40_000), 0.0);
    // Twice as eager is as if the load cost twice as much; a load that cost nothing is never refreshed early.
    let eager = (0..20_000)
        .filter(|_| fresh.verdict(&meta(times, 500_000), NOW_MS + 99_000, Some(2.0)) == Verdict::Due)
        .count();
    assert!((eager as f64 / 20_000.0 - 0.368).abs() < 0.02);
    assert_eq!(fresh.verdict(&meta(times, 0), NOW_MS + 99_999, None), Verdict::Fresh);
    // Nobody who just takes the value misses a draw that could say otherwise.
    assert_eq!(fresh.look_closer_at_ms(&times, || 1_000_000), Some(NOW_MS + 100_000 - 36_800));
}

#[test]
fn the_same_seed_draws_the_same_lives() {
    let lives = |seed| -> Vec<u64> {
        let fresh = Fresh::new(FreshnessConfig::default(), Some(seed));
        let options = SetOptions::default().with_ttl(MINUTE);
        (0..100).map(|_| fresh.times(&options, None, NOW_MS, true).unwrap().expires_ms).collect()
    };
    assert_eq!(lives(5), lives(5));
    assert_ne!(lives(5), lives(6));
}
