//! The limit against a sorted list, and what becomes of it when a store turns slow, dead, and well again.

use proptest::prelude::*;

use super::*;

fn adaptive() -> Adaptive {
    Adaptive::new(AdaptiveConfig::default())
}

fn answers(adaptive: &Adaptive, took_ms: u64, count: u32) {
    (0..count).for_each(|_| adaptive.answered(took_ms));
}

#[test]
fn a_fast_store_is_given_the_shortest_limit_once_it_is_known() {
    let adaptive = adaptive();
    answers(&adaptive, 0, 255);
    assert_eq!(adaptive.limit_ms(), None);
    answers(&adaptive, 0, 1);
    assert_eq!(adaptive.limit_ms(), Some(50));
}

#[test]
fn the_limit_is_a_multiple_of_what_nearly_all_answers_take() {
    let adaptive = adaptive();
    answers(&adaptive, 4, 240);
    answers(&adaptive, 100, 16);
    let limit = adaptive.limit_ms().unwrap();
    assert!((300..=336).contains(&limit), "{limit}");
    // One slow answer in 256 is an exception.
    let other = super::Adaptive::new(AdaptiveConfig::default());
    answers(&other, 1_000, 1);
    answers(&other, 4, 255);
    assert_eq!(other.limit_ms(), Some(50));
}

#[test]
fn tries_that_are_cut_together_double_it_once() {
    let adaptive = adaptive();
    answers(&adaptive, 0, 256);
    (0..100).for_each(|_| adaptive.gave_up(50));
    assert_eq!((adaptive.limit_ms(), adaptive.cut()), (Some(100), 100));
}

#[test]
fn a_store_that_became_slow_is_waited_for_after_a_few_cuts_and_known_again_when_it_answers() {
    let adaptive = adaptive();
    answers(&adaptive, 1, 4_096);
    let mut cuts = 0;
    while let Some(limit) = adaptive.limit_ms().filter(|limit| *limit < 700) {
        adaptive.gave_up(limit);
        cuts += 1;
    }
    assert_eq!(cuts, 4, "50, 100, 200, 400");
    answers(&adaptive, 700, 512);
    assert!(adaptive.limit_ms().unwrap() >= 2_100);
    answers(&adaptive, 1, 60_000);
    assert_eq!(adaptive.limit_ms(), Some(50), "old times are forgotten");
}

#[test]
fn beyond_the_longest_limit_the_deadline_alone_decides() {
    let adaptive = adaptive();
    answers(&adaptive, 0, 256);
    while let Some(limit) = adaptive.limit_ms() {
        assert!(limit <= 30_000);
        adaptive.gave_up(limit);
    }
}

#[test]
fn two_that_forget_at_the_same_time_leave_no_less_than_nothing() {
    let adaptive = adaptive();
    answers(&adaptive, 0, 255);
    adaptive.answered(700);
    let counts: [u32; BUCKETS] = std::array::from_fn(|at| adaptive.slower[at].load(Ordering::Relaxed));
    for _ in 0..3 {
        adaptive.forget_half(256, &counts);
    }
    assert_eq!(adaptive.seen.load(Ordering::Relaxed), 0);
    assert!(adaptive.slower.iter().all(|slower| slower.load(Ordering::Relaxed) == 0));
    answers(&adaptive, 0, 256);
    assert_eq!(adaptive.usual(), Duration::from_millis(1));
}

#[test]
fn every_time_is_counted_where_it_belongs() {
    let times = (0..2_000).chain((0..17).map(|power| 1 << power)).chain([131_071]);
    for ms in times {
        let at = bucket(ms);
        assert!(ms < upper_ms(at) && (at == 0 || ms >= upper_ms(at - 1)), "{ms} in {at}");
    }
    assert_eq!(bucket(u64::MAX), BUCKETS - 1);
}

#[test]
fn what_cannot_work_is_refused() {
    let good = AdaptiveConfig::default();
    assert_eq!(good.check(), Ok(()));
    for bad in [
        AdaptiveConfig { min: Duration::from_millis(1), ..good },
        AdaptiveConfig { max: Duration::from_millis(49), ..good },
        AdaptiveConfig { factor: 1, ..good },
        AdaptiveConfig { factor: 101, ..good },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

proptest! {
    /// What is seen as usual is at least the 99th percentile, and at most an eighth more.
    #[test]
    fn what_is_usual_is_the_ninety_ninth_percentile(mut times in proptest::collection::vec(0_u64..20_000, 256..=256)) {
        let adaptive = adaptive();
        times.iter().for_each(|ms| adaptive.answered(*ms));
        times.sort_unstable();
        let exact = times[256 - 1 - 2];
        let usual = adaptive.usual().as_millis() as u64;
        prop_assert!(usual > exact && usual <= exact + exact / 8 + 1, "{usual} for {exact}");
    }
}
