//! A hundred keys in one exchange beside a hundred exchanges.

use std::time::{Duration, Instant};

use cachekit_core::Cache;
use cachekit_core::cache::SetOptions;
use tokio::runtime::Runtime;

use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::median;
use crate::{Effort, Failure};

const KEYS: usize = 100;
/// What the project set itself: one `get_many` of 100 keys beside 100 gets.
const GOAL: f64 = 10.0;

pub(super) fn compare(
    effort: Effort,
    runtime: &Runtime,
    cache: &Cache,
    server: &str,
    report: &mut Report,
) -> Result<(), Failure> {
    let rounds = match effort {
        Effort::Quick => 20,
        Effort::Full => 200,
    };
    let keys: Vec<String> = (0..KEYS).map(|n| format!("batch-{n:03}-of-usual-length")).collect();
    let value = "v".repeat(super::VALUE_BYTES);
    let (mut together, mut one_by_one) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        for key in &keys {
            cache.set_with(key, &value, SetOptions::default()).await?;
        }
        for _ in 0..rounds {
            let begun = Instant::now();
            let found = cache.get_many::<String, _>(&keys).await?;
            together.push(micros(begun.elapsed()));
            assert!(found.iter().all(Option::is_some), "every key was set");
            let begun = Instant::now();
            for key in &keys {
                assert!(cache.get::<String>(key).await?.is_some(), "every key was set");
            }
            one_by_one.push(micros(begun.elapsed()));
        }
        Ok::<(), cachekit_core::Error>(())
    })?;
    let figure = |name: &str, times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        Figure { name: name.into(), value: median(times), best: times.first().copied() }
    };
    let (together, one_by_one) = (figure("get_many .so", &mut together), figure("100 gets .so", &mut one_by_one));
    let case = format!("{server}: 100 keys, 1 caller");
    report.rows.push(Row::beside(case, "µs", together, one_by_one, Some(Goal::RatioAtMost(1.0 / GOAL))));
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
