//! What a cache tells of itself: every counter under a documented name, distributions of what takes time, and sums that
//! add up. Spans and events are in `traces.rs`.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use cachekit::metrics::{Metric, MetricKind, all, describe, publish};
use cachekit::plugin::Backend;
use cachekit::{Cache, Stats};
use cachekit_conformance::{Memory, MemoryConfig};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use proptest::prelude::*;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn on(memory: &Memory) -> Cache {
    let store: Arc<dyn Backend> = Arc::new(memory.clone());
    Cache::builder().namespace("users").without_breaker().coherence(false).backend(store).build().unwrap()
}

/// The table of the documentation, as the code has it.
fn table(metrics: &[Metric]) -> String {
    let mut table = "| Name | Kind | Labels | What |\n|---|---|---|---|\n".to_owned();
    for Metric { name, kind, labels, text, .. } in metrics {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let text = text.replace("[`", "`").replace("`]", "`");
        table.push_str(&format!("| `{name}` | {kind} | {labels} | {text} |\n"));
    }
    table
}

#[test]
fn the_documentation_lists_every_metric() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/observability.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- metrics -->\n", "<!-- /metrics -->\n");
    let (before, rest) = page.split_once(begin).expect("the table has a beginning");
    let (found, after) = rest.split_once(end).expect("and an end");
    let expected = table(&all());
    if std::env::var_os("CACHEKIT_OVERWRITE").is_some() {
        std::fs::write(&path, format!("{before}{begin}{expected}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(found, expected, "CACHEKIT_OVERWRITE=1 writes the table anew");
}

#[test]
fn every_number_of_the_statistics_has_a_metric() {
    let memory = Memory::new(MemoryConfig::default());
    let fields = serde_json::to_value(on(&memory).stats()).unwrap();
    let names: Vec<String> = all().into_iter().map(|metric| metric.name).collect();
    let mut published = Vec::new();
    let mut look = |name: String| published.push(name);
    for (field, value) in fields.as_object().unwrap() {
        match value {
            serde_json::Value::Number(_) => look(format!("cachekit_{field}_total")),
            serde_json::Value::Object(l1) if field == "l1" => {
                for field in l1.keys().filter(|field| !["entries", "bytes"].contains(&field.as_str())) {
                    look(format!("cachekit_l1_{field}_total"));
                }
            }
            _ => {}
        }
    }
    // The control: a field of a name that is none.
    look("cachekit_no_such_counter_total".into());
    published.retain(|name| !names.contains(name));
    assert_eq!(published, ["cachekit_no_such_counter_total"], "nobody publishes these");
}

#[test]
fn counters_are_told_when_they_are_asked_for_and_times_as_they_happen() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let cache = on(&Memory::new(MemoryConfig::default()));
    metrics::with_local_recorder(&recorder, || {
        describe();
        run(async {
            cache.get_or_load("1", async || 1_u32).await.unwrap();
            for _ in 0..5 {
                cache.get::<u32>("1").await.unwrap();
            }
            cache.get::<u32>("2").await.unwrap();
        });
        publish(&cache);
        publish(&cache);
    });
    let mut seen = BTreeMap::new();
    for (key, _, described, value) in snapshotter.snapshot().into_vec() {
        let (name, labels) = (key.key().name().to_owned(), key.key().labels().cloned().collect::<Vec<_>>());
        assert!(described.is_some(), "{name} is described");
        let of_cache = labels.iter().any(|label| label.key() == "cache" && label.value() == "users");
        match value {
            DebugValue::Histogram(times) => {
                let operation =
                    labels.iter().find(|label| label.key() == "operation").map_or("", |label| label.value());
                seen.insert(format!("{name}{operation}"), times.len() as u64);
            }
            DebugValue::Counter(count) => {
                assert!(of_cache, "{name} says of which cache it is");
                seen.insert(name, count);
            }
            DebugValue::Gauge(value) => {
                seen.insert(name, value.into_inner() as u64);
            }
        }
    }
    for (name, expected) in [
        ("cachekit_l1_hits_total", 5),
        ("cachekit_loads_total", 1),
        ("cachekit_sets_total", 1),
        ("cachekit_l2_misses_total", 2),
        ("cachekit_l1_entries", 1),
        ("cachekit_load_seconds", 1),
        ("cachekit_l2_secondsget", 2),
    ] {
        assert_eq!(seen.get(name), Some(&expected), "{name} in {seen:?}");
    }
    // And no metric without its line in the list.
    let known: Vec<String> = all().into_iter().map(|metric| metric.name).collect();
    assert!(seen.keys().all(|name| known.iter().any(|known| name.starts_with(known.as_str()))), "{seen:?}");
}

/// One thing that a caller does.
#[derive(Debug, Clone)]
enum Step {
    Get(u8),
    GetOrLoad(u8),
    Set(u8),
    Delete(u8),
    /// Somebody else's bytes in the store.
    Corrupt(u8),
    Outage(bool),
    ForgetL1,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u8).prop_map(Step::Get),
        3 => (0..6_u8).prop_map(Step::GetOrLoad),
        3 => (0..6_u8).prop_map(Step::Set),
        1 => (0..6_u8).prop_map(Step::Delete),
        1 => (0..6_u8).prop_map(Step::Corrupt),
        1 => any::<bool>().prop_map(Step::Outage),
        1 => Just(Step::ForgetL1),
    ]
}

fn l1(stats: &Stats) -> (u64, u64) {
    stats.l1.as_ref().map_or((0, 0), |l1| (l1.hits, l1.misses))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A get is a hit or a miss of L1, and a miss ends in exactly one way in the second tier.
    #[test]
    fn hits_and_misses_are_the_calls(steps in prop::collection::vec(step(), 1..60)) {
        run(async {
            let memory = Memory::new(MemoryConfig::default());
            let cache = on(&memory);
            let mut before = cache.stats();
            for step in steps {
                let is_get = matches!(step, Step::Get(_));
                match &step {
                    Step::Get(key) => { let _ = cache.get::<u32>([b'k', *key]).await.unwrap(); }
                    Step::GetOrLoad(key) => { cache.get_or_load([b'k', *key], async || 1_u32).await.unwrap(); }
                    Step::Set(key) => cache.set([b'k', *key], &2_u32).await.unwrap(),
                    // Refused during an outage, which is none of this.
                    Step::Delete(key) => { let _ = cache.delete([b'k', *key]).await; }
                    Step::Corrupt(key) => {
                        let key = [b"ck:users:k".as_slice(), &[*key]].concat();
                        let deadline = cachekit::plugin::Deadline::after(std::time::Duration::from_secs(1));
                        let cx = cachekit::plugin::Cx::new(deadline);
                        let wire = cachekit::plugin::Key::from_wire(&key);
                        let rubbish = cachekit::plugin::Bytes::from_static(b"rubbish");
                        let _ = memory.set(wire, rubbish, cachekit::plugin::Ttl::Never, &cx).await;
                    }
                    Step::Outage(outage) => memory.set_outage(*outage),
                    Step::ForgetL1 => { let _ = cache.clear().await; }
                }
                let after = cache.stats();
                if is_get {
                    let ((hits, misses), (hits_before, misses_before)) = (l1(&after), l1(&before));
                    let (hit, miss) = (hits - hits_before, misses - misses_before);
                    prop_assert_eq!(hit + miss, 1, "{:?}: one outcome in L1", &step);
                    let refused = |stats: &Stats| stats.refused.values().sum::<u64>();
                    let ends = (after.l2_hits - before.l2_hits)
                        + (after.l2_misses - before.l2_misses)
                        + (after.l2_errors - before.l2_errors)
                        + (refused(&after) - refused(&before));
                    prop_assert_eq!(ends, miss, "{:?}: one outcome in the second tier for each miss", &step);
                }
                before = after;
            }
            Ok(())
        })?;
    }
}
