//! What was measured, and how it is shown.

use std::collections::BTreeMap;
use std::time::Duration;

use cachekit_plugin::BackendError;
use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};

use crate::cli::transfer::{BenchArgs, Work};

/// Longest latency that is told apart, nanoseconds: a minute.
const MAX_NS: u64 = 60_000_000_000;

/// Of one operation.
pub(super) struct OfOperation {
    /// Nanoseconds of what was answered, three digits. `None` where a histogram could not be made.
    latency: Option<Histogram<u64>>,
    misses: u64,
    wrong: u64,
    errors: BTreeMap<&'static str, u64>,
}

impl Default for OfOperation {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, MAX_NS, 3).ok();
        Self { latency, misses: 0, wrong: 0, errors: BTreeMap::new() }
    }
}

impl OfOperation {
    /// `answer`: whether the right thing was found, `None` for nothing.
    pub(super) fn record(&mut self, took: Duration, answer: Result<Option<bool>, BackendError>) {
        match answer {
            Err(error) => {
                *self.errors.entry(error.kind().as_str()).or_default() += 1;
                return;
            }
            Ok(None) => self.misses += 1,
            Ok(Some(false)) => self.wrong += 1,
            Ok(Some(true)) => {}
        }
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latency.iter_mut().for_each(|latency| latency.saturating_record(took_ns));
    }

    pub(super) fn add(&mut self, other: &Self) {
        if let (Some(latency), Some(other)) = (&mut self.latency, &other.latency) {
            // Histograms of the same bounds fit each other.
            let _ = latency.add(other);
        }
        self.misses += other.misses;
        self.wrong += other.wrong;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
    }

    fn count(&self) -> u64 {
        self.latency.as_ref().map_or(0, Histogram::len)
    }

    fn is_empty(&self) -> bool {
        self.count() == 0 && self.errors.is_empty()
    }

    fn at_ns(&self, quantile: f64) -> u64 {
        self.latency.as_ref().map_or(0, |latency| latency.value_at_quantile(quantile))
    }

    fn max_ns(&self) -> u64 {
        self.latency.as_ref().map_or(0, Histogram::max)
    }
}

/// Of a run.
pub(super) struct Numbers {
    took: Duration,
    of: BTreeMap<&'static str, OfOperation>,
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

impl Numbers {
    pub(super) fn new(took: Duration, mut of: BTreeMap<&'static str, OfOperation>) -> Self {
        of.retain(|_, numbers| !numbers.is_empty());
        Self { took, of }
    }

    pub(super) fn errors(&self) -> u64 {
        self.of.values().flat_map(|of| of.errors.values()).sum()
    }

    pub(super) fn wrong(&self) -> u64 {
        self.of.values().map(|of| of.wrong).sum()
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64().max(1e-9)
    }

    pub(super) fn document(&self, args: &BenchArgs, keys_left: u64) -> Json {
        let operations: BTreeMap<_, _> = self.of.iter().map(|(name, of)| (*name, self.of_operation(of))).collect();
        json!({
            "work": match args.work { Work::Get => "get", Work::Set => "set", Work::Mixed => "mixed" },
            "callers": args.callers,
            "keys": args.keys,
            "value_bytes": args.value_size,
            "seconds": self.took.as_secs_f64(),
            "per_second": self.per_second(self.of.values().map(OfOperation::count).sum()),
            "operations": operations,
            "errors": self.errors(),
            "wrong_values": self.wrong(),
            "keys_left": keys_left,
        })
    }

    fn of_operation(&self, of: &OfOperation) -> Json {
        let mut latency: serde_json::Map<String, Json> = QUANTILES
            .iter()
            .map(|(name, quantile)| ((*name).to_owned(), json!(of.at_ns(*quantile) as f64 / 1e3)))
            .collect();
        latency.insert("max".into(), json!(of.max_ns() as f64 / 1e3));
        latency.insert("mean".into(), json!(of.latency.as_ref().map_or(0.0, Histogram::mean) / 1e3));
        json!({
            "count": of.count(),
            "per_second": self.per_second(of.count()),
            "latency_us": latency,
            "misses": of.misses,
            "wrong_values": of.wrong,
            "errors": of.errors,
        })
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!("{:<6}{:>12}{:>12}", "", "count", "per second");
        QUANTILES.iter().for_each(|(name, _)| text += &format!("{name:>11}"));
        text += &format!("{:>11}", "max");
        for (name, of) in &self.of {
            text += &format!("\n{name:<6}{:>12}{:>12.0}", of.count(), self.per_second(of.count()));
            QUANTILES.iter().for_each(|(_, quantile)| text += &format!("{:>11}", shown(of.at_ns(*quantile))));
            text += &format!("{:>11}", shown(of.max_ns()));
        }
        for (name, of) in &self.of {
            if of.misses > 0 {
                text += &format!("\n{name}: {} misses, of keys that had been written", of.misses);
            }
            if of.wrong > 0 {
                text += &format!("\n{name}: {} WRONG VALUES", of.wrong);
            }
            for (kind, count) in &of.errors {
                text += &format!("\n{name}: {count} errors ({kind})");
            }
        }
        text
    }
}

/// A latency as people read it.
fn shown(ns: u64) -> String {
    match ns {
        0..=999 => format!("{ns} ns"),
        1_000..=999_999 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use cachekit_plugin::{Kind, Operation};

    use super::*;

    #[test]
    fn what_failed_is_counted_and_not_timed() {
        let mut of = OfOperation::default();
        of.record(Duration::from_micros(10), Ok(Some(true)));
        of.record(Duration::from_micros(20), Ok(None));
        of.record(Duration::from_micros(30), Ok(Some(false)));
        of.record(Duration::from_secs(1), Err(BackendError::new(Kind::Timeout, Operation::Get, "")));
        let mut sum = OfOperation::default();
        sum.add(&of);
        sum.add(&of);
        assert_eq!((sum.count(), sum.misses, sum.wrong, sum.errors["timeout"]), (6, 2, 2, 2));
        let numbers =
            Numbers::new(Duration::from_secs(2), BTreeMap::from([("get", sum), ("set", OfOperation::default())]));
        assert_eq!((numbers.errors(), numbers.wrong()), (2, 2));
        let table = numbers.table();
        assert!(table.contains("WRONG") && table.contains("2 errors (timeout)") && !table.contains("set"), "{table}");
        assert!(table.lines().nth(1).unwrap().contains("3  ") || table.contains(" 3 "), "{table}");
    }

    #[test]
    fn latencies_are_shown_with_their_unit() {
        let texts = [7, 1_500, 2_340_000, 1_500_000_000].map(shown);
        assert_eq!(texts, ["7 ns", "1.5 µs", "2.34 ms", "1.50 s"]);
    }
}
