//! What caches do, for whatever recorder the program has installed with the crate `metrics`.
//!
//! Counters are pulled: [`publish`] reads them when somebody scrapes, or once in a while, and an L1 hit costs what it costs
//! without them. Only how long exchanges and loads take is told as it happens, because a distribution cannot be read later.
//! All names stand in `docs/observability.md`, which a test compares with them.
//!
//! ```
//! # use cachekit::Cache;
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let cache = Cache::builder().namespace("users").build()?;
//! cachekit::metrics::describe(); // once, after the recorder is installed
//! cache.get::<String>("42").await?;
//! cachekit::metrics::publish(&cache); // whenever the recorder is about to be read
//! # Ok::<(), cachekit::Error>(()) }).unwrap();
//! ```

use cachekit_core::Cache;
use cachekit_core::guard::breaker::BreakerState;
use cachekit_core::observe::{COUNTERS, L2_SECONDS, LOAD_SECONDS};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// As it is now.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: MetricKind,
    /// Its labels beside `cache`, which all but the histograms have.
    pub labels: &'static str,
    /// What it means.
    pub text: String,
}

/// Counters of the first tier, as its statistics name them.
const L1_COUNTERS: [(&str, &str); 9] = [
    ("hits", "Lookups in the first tier that returned a value."),
    ("misses", "Lookups in the first tier that did not."),
    ("expired", "Entries of the first tier whose life was over when they were looked up. Also misses."),
    ("inserts", "Values the first tier kept."),
    ("replaced", "Older values that a later one took the place of."),
    ("refused", "Values the first tier did not keep: too large, or of less use than what they would have displaced."),
    ("evictions", "Entries dropped to make room."),
    ("removed", "Entries removed, cleared, or dropped with a newer value that was refused."),
    ("listener_panics", "Times a listener of the first tier panicked."),
];

/// All metrics, in the order of the documentation.
#[must_use]
pub fn all() -> Vec<Metric> {
    let metric = |name: String, kind, labels, text: &str| Metric { name, kind, labels, text: text.trim().to_owned() };
    let l1 = L1_COUNTERS.iter().map(|(name, text)| metric(l1_name(name), MetricKind::Counter, "", text));
    let counters = COUNTERS.iter().map(|(name, text)| metric(total(name), MetricKind::Counter, "", text));
    let others = [
        (
            "cachekit_refused_total",
            MetricKind::Counter,
            "`class`",
            "Entries of the second tier that were refused; each was a miss.",
        ),
        ("cachekit_l1_entries", MetricKind::Gauge, "", "Entries in the first tier."),
        ("cachekit_l1_bytes", MetricKind::Gauge, "", "Bytes charged for them."),
        (
            "cachekit_breaker_open",
            MetricKind::Gauge,
            "",
            "0: the circuit breaker is closed, 0.5: it tries, 1: it is open.",
        ),
        (
            L2_SECONDS,
            MetricKind::Histogram,
            "`operation`, `outcome` (`ok`, `error`)",
            "Exchanges with the second tier, with their waiting and their retries.",
        ),
        (LOAD_SECONDS, MetricKind::Histogram, "`outcome` (`ok`, `error`)", "Loaders, from their start to their end."),
    ];
    let others = others.into_iter().map(|(name, kind, labels, text)| metric(name.to_owned(), kind, labels, text));
    l1.chain(counters).chain(others).collect()
}

fn total(name: &str) -> String {
    format!("cachekit_{name}_total")
}

fn l1_name(name: &str) -> String {
    format!("cachekit_l1_{name}_total")
}

/// Tells the recorder what every metric means.
pub fn describe() {
    for Metric { name, kind, text, .. } in all() {
        match kind {
            MetricKind::Counter => describe_counter!(name, text),
            MetricKind::Gauge => describe_gauge!(name, text),
            MetricKind::Histogram => describe_histogram!(name, Unit::Seconds, text),
        }
    }
}

/// Tells the recorder what `cache` did, under the name of its namespace. All namespaces of one cache share their counters, so
/// one of them is to be published.
pub fn publish(cache: &Cache) {
    publish_as(cache, cache.namespace_name());
}

/// As [`publish`], under a name of its own: for two caches of one namespace.
pub fn publish_as(cache: &Cache, name: &str) {
    let name = name.to_owned();
    let stats = cache.stats();
    // By way of its serialized form, which has every field: one that is added is published without a line here.
    let fields = serde_json::to_value(&stats).unwrap_or_default();
    for (field, _) in COUNTERS {
        if let Some(count) = fields.get(*field).and_then(serde_json::Value::as_u64) {
            counter!(total(field), "cache" => name.clone()).absolute(count);
        }
    }
    for (class, count) in &stats.refused {
        counter!("cachekit_refused_total", "cache" => name.clone(), "class" => *class).absolute(*count);
    }
    if let Some(l1) = fields.get("l1").filter(|l1| l1.is_object()) {
        let count = |field: &str| l1.get(field).and_then(serde_json::Value::as_u64).unwrap_or_default();
        for (field, _) in L1_COUNTERS {
            counter!(l1_name(field), "cache" => name.clone()).absolute(count(field));
        }
        gauge!("cachekit_l1_entries", "cache" => name.clone()).set(count("entries") as f64);
        gauge!("cachekit_l1_bytes", "cache" => name.clone()).set(count("bytes") as f64);
    }
    if let Some(state) = cache.tier().and_then(cachekit_core::tier::Tier::breaker_state) {
        let open = match state {
            BreakerState::Closed => 0.0,
            BreakerState::Open => 1.0,
            _ => 0.5,
        };
        gauge!("cachekit_breaker_open", "cache" => name).set(open);
    }
}
