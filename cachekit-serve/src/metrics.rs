//! What the server did, as numbers that Prometheus reads. A fixed set of counters: no label comes from a client, so no
//! client can make it grow, and neither keys nor tenants appear.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::StatusCode;

/// What a request asks for, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Get,
    Put,
    Delete,
    Health,
    ReadTtl,
    PatchTtl,
    Lock,
    Unlock,
    Metrics,
    /// No endpoint.
    Other,
}

const ASKED: [(Asked, &str); 10] = [
    (Asked::Get, "get"),
    (Asked::Put, "put"),
    (Asked::Delete, "delete"),
    (Asked::Health, "health"),
    (Asked::ReadTtl, "ttl"),
    (Asked::PatchTtl, "touch"),
    (Asked::Lock, "lock"),
    (Asked::Unlock, "unlock"),
    (Asked::Metrics, "metrics"),
    (Asked::Other, "other"),
];

/// Upper ends of the buckets, microseconds. A hit in memory is some tens, the deadline of the server 3 000 000.
const BUCKETS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000];

#[derive(Debug, Default)]
struct OfAsked {
    /// By the first digit of the status, 1 to 5.
    by_class: [AtomicU64; 5],
    buckets: [AtomicU64; BUCKETS_US.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

/// All numbers.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    asked: [OfAsked; ASKED.len()],
    pub(crate) hits: AtomicU64,
    pub(crate) stale_hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    /// Stored bytes that were no entry of the key, and were answered as a miss.
    pub(crate) refused_entries: AtomicU64,
    /// Renewals that gave up because others kept writing.
    pub(crate) conflicts: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Of these, those that are open now.
    pub(crate) open: AtomicU64,
    pub(crate) connections_timed_out: AtomicU64,
    pub(crate) tls_failures: AtomicU64,
}

/// What is counted elsewhere and shown here.
pub(crate) struct Now {
    pub(crate) in_flight: usize,
    pub(crate) buffered_bytes: usize,
}

impl Metrics {
    pub(crate) fn record(&self, asked: Asked, status: StatusCode, took: Duration) {
        let of = &self.asked[asked as usize];
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        of.by_class[class].fetch_add(1, Relaxed);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS_US.iter().position(|end| took_us <= *end) {
            of.buckets[bucket].fetch_add(1, Relaxed);
        }
        of.count.fetch_add(1, Relaxed);
        of.sum_us.fetch_add(took_us, Relaxed);
    }

    /// In the text format of Prometheus, 0.0.4.
    pub(crate) fn text(&self, now: &Now) -> String {
        let mut text = String::with_capacity(8 << 10);
        self.requests(&mut text);
        for (name, help, value) in [
            ("hits_total", "Reads that found a fresh entry.", &self.hits),
            ("stale_hits_total", "Reads that found an entry inside its stale window.", &self.stale_hits),
            ("misses_total", "Reads that found nothing.", &self.misses),
            ("refused_entries_total", "Stored bytes that were no entry of their key.", &self.refused_entries),
            ("conflicts_total", "Renewals of a life that were overtaken each time.", &self.conflicts),
            ("received_value_bytes_total", "Bytes of values received.", &self.bytes_in),
            ("sent_value_bytes_total", "Bytes of values sent.", &self.bytes_out),
            ("connections_total", "Connections accepted.", &self.connections),
            (
                "connections_timed_out_total",
                "Connections closed for being too slow or idle.",
                &self.connections_timed_out,
            ),
            ("tls_failures_total", "Connections that ended in the TLS handshake.", &self.tls_failures),
        ] {
            single(&mut text, name, "counter", help, value.load(Relaxed));
        }
        for (name, help, value) in [
            ("requests_in_flight", "Requests under way, until their answer is written.", now.in_flight),
            ("connections", "Open connections.", self.open.load(Relaxed) as usize),
            ("buffered_bytes", "Bytes of values on their way in or out.", now.buffered_bytes),
        ] {
            single(&mut text, name, "gauge", help, value as u64);
        }
        text
    }

    // Writing to a String cannot fail, so its answers are dropped.
    fn requests(&self, text: &mut String) {
        head(text, "requests_total", "counter", "Requests, by what they asked for and the class of the answer.");
        for (asked, name) in ASKED {
            for (class, count) in self.asked[asked as usize].by_class.iter().enumerate() {
                let (class, count) = (class + 1, count.load(Relaxed));
                if count > 0 {
                    let _ =
                        writeln!(text, "{PREFIX}requests_total{{operation=\"{name}\",status=\"{class}xx\"}} {count}");
                }
            }
        }
        let name = "request_duration_seconds";
        head(text, name, "histogram", "From the end of the headers to the head of the answer.");
        for (asked, operation) in ASKED {
            let of = &self.asked[asked as usize];
            // Read first: what is recorded meanwhile must not make a bucket larger than the count.
            let buckets = of.buckets.each_ref().map(|bucket| bucket.load(Relaxed));
            let count = of.count.load(Relaxed).max(buckets.iter().sum());
            if count == 0 {
                continue;
            }
            let mut below = 0;
            for (end_us, bucket) in BUCKETS_US.iter().zip(buckets) {
                below += bucket;
                let end = *end_us as f64 / 1e6;
                let _ = writeln!(text, "{PREFIX}{name}_bucket{{operation=\"{operation}\",le=\"{end}\"}} {below}");
            }
            let _ = writeln!(text, "{PREFIX}{name}_bucket{{operation=\"{operation}\",le=\"+Inf\"}} {count}");
            let sum = of.sum_us.load(Relaxed) as f64 / 1e6;
            let _ = writeln!(text, "{PREFIX}{name}_sum{{operation=\"{operation}\"}} {sum}");
            let _ = writeln!(text, "{PREFIX}{name}_count{{operation=\"{operation}\"}} {count}");
        }
    }
}

const PREFIX: &str = "cachekit_serve_";

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
}

fn single(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    head(text, name, kind, help);
    let _ = writeln!(text, "{PREFIX}{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_where_their_numbers_do() {
        for (at, (asked, _)) in ASKED.into_iter().enumerate() {
            assert_eq!(asked as usize, at);
        }
    }

    #[test]
    fn a_histogram_adds_up() {
        let metrics = Metrics::default();
        for took in [50, 100, 101, 3_000_000, 9_000_000] {
            metrics.record(Asked::Get, StatusCode::OK, Duration::from_micros(took));
        }
        metrics.record(Asked::Get, StatusCode::NOT_FOUND, Duration::ZERO);
        let text = metrics.text(&Now { in_flight: 1, buffered_bytes: 3 });
        for line in [
            r#"cachekit_serve_requests_total{operation="get",status="2xx"} 5"#,
            r#"cachekit_serve_requests_total{operation="get",status="4xx"} 1"#,
            r#"cachekit_serve_request_duration_seconds_bucket{operation="get",le="0.0001"} 3"#,
            r#"cachekit_serve_request_duration_seconds_bucket{operation="get",le="0.00025"} 4"#,
            r#"cachekit_serve_request_duration_seconds_bucket{operation="get",le="5"} 5"#,
            r#"cachekit_serve_request_duration_seconds_bucket{operation="get",le="+Inf"} 6"#,
            r#"cachekit_serve_request_duration_seconds_count{operation="get"} 6"#,
            "cachekit_serve_buffered_bytes 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("operation=\"put\""));
    }
}
