//! Against a naive model, and the moments at which a place could get lost.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

fn bulkhead(in_flight: u32, queued: u32) -> Bulkhead {
    Bulkhead::new(BulkheadConfig { in_flight, queued, ..BulkheadConfig::default() })
}

fn place<'a>(entering: &mut Entering<'a>) -> Option<Place<'a>> {
    Pin::new(entering).now_or_never()
}

#[test]
fn whoever_waited_longest_gets_the_place_that_is_left() {
    let bulkhead = bulkhead(1, 2);
    let first = bulkhead.try_enter().unwrap();
    let (mut second, mut third) = (bulkhead.enter().unwrap(), bulkhead.enter().unwrap());
    assert!(bulkhead.enter().is_err() && bulkhead.try_enter().is_none());
    assert_eq!(bulkhead.load(), (1, 2));
    drop(first);
    assert!(place(&mut third).is_none());
    let second = place(&mut second).expect("it stood first");
    assert_eq!(bulkhead.load(), (1, 1));
    drop(second);
    drop(place(&mut third).expect("the next"));
    assert_eq!(bulkhead.load(), (0, 0));
}

#[test]
fn a_place_that_was_handed_to_one_who_has_gone_goes_to_the_next() {
    let bulkhead = bulkhead(1, 2);
    let first = bulkhead.try_enter().unwrap();
    let (second, mut third) = (bulkhead.enter().unwrap(), bulkhead.enter().unwrap());
    drop(first);
    drop(second);
    assert!(place(&mut third).is_some());
    assert_eq!(bulkhead.load(), (0, 0));
}

#[test]
fn a_call_that_panics_leaves_its_place() {
    let bulkhead = bulkhead(1, 0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _place = bulkhead.try_enter().unwrap();
        std::panic::resume_unwind(Box::new("a backend that panics"));
    }));
    assert!(panicked.is_err() && bulkhead.try_enter().is_some());
}

#[test]
fn what_cannot_work_is_refused() {
    let good = BulkheadConfig::default();
    assert_eq!(good.check(), Ok(()));
    assert_eq!(BulkheadConfig { queued: 0, ..good }.check(), Ok(()));
    for bad in [
        // `errors.json`, `config/bp_0`.
        BulkheadConfig { in_flight: 0, ..good },
        BulkheadConfig { in_flight: u32::MAX, ..good },
        BulkheadConfig { queued: u32::MAX, ..good },
        BulkheadConfig { wait: Duration::ZERO, ..good },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

proptest! {
    /// The same as a list of those in flight and a list of those who wait.
    #[test]
    fn it_does_what_two_lists_do(
        in_flight in 1_u32..4, queued in 0_u32..4, steps in proptest::collection::vec((0_u8..3, 0_usize..8), 0..200),
    ) {
        let bulkhead = bulkhead(in_flight, queued);
        let (mut inside, mut waits) = (Vec::new(), Vec::new());
        let (mut model_inside, mut model_waits) = (Vec::new(), Vec::new());
        for (name, (what, at)) in steps.into_iter().enumerate() {
            match what {
                0 => {
                    let has_room = model_inside.len() < in_flight as usize;
                    match bulkhead.try_enter() {
                        Some(place) => inside.push((name, place)),
                        None => match bulkhead.enter() {
                            Ok(entering) => waits.push((name, entering)),
                            Err(Full) => prop_assert!(!has_room && model_waits.len() == queued as usize),
                        },
                    }
                    if has_room {
                        model_inside.push(name);
                    } else if model_waits.len() < queued as usize {
                        model_waits.push(name);
                    }
                }
                1 if !inside.is_empty() => {
                    let at = at % inside.len();
                    let (name, place) = inside.swap_remove(at);
                    drop(place);
                    model_inside.retain(|other| *other != name);
                }
                2 if !waits.is_empty() => {
                    let (name, entering) = waits.remove(at % waits.len());
                    drop(entering);
                    model_waits.retain(|other| *other != name);
                }
                _ => {}
            }
            while model_inside.len() < in_flight as usize && !model_waits.is_empty() {
                model_inside.push(model_waits.remove(0));
            }
            let entered: Vec<_> = waits.iter_mut().map(|(name, entering)| (*name, place(entering))).collect();
            inside.extend(entered.into_iter().filter_map(|(name, place)| Some((name, place?))));
            waits.retain(|(name, _)| model_waits.contains(name));
            let mut names: Vec<usize> = inside.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            model_inside.sort_unstable();
            prop_assert_eq!(&names, &model_inside);
            prop_assert_eq!(bulkhead.load(), (model_inside.len() as u32, model_waits.len() as u32));
        }
    }
}
