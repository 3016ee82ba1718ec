//! Many clients at once. `examples/load.rs` does the same for as long as one likes, and watches memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cachekit_serve::Bounds;

use crate::fixture::{Fixture, client_speaking};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_and_fifty_six_clients_get_what_they_stored() {
    // All of them begin with a handshake at the same time, on a machine that may be busy.
    let patient = Bounds { header_timeout: Duration::from_secs(60), ..Bounds::default() };
    let fixture = Arc::new(Fixture::with(|builder| builder.bounds(patient)).await);
    let requests = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs(3);
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..256 {
        let (fixture, requests) = (fixture.clone(), requests.clone());
        clients.spawn(async move {
            // Half of them in each version of HTTP, each with a connection of its own.
            let protocol: &[u8] = if number % 2 == 0 { b"h2" } else { b"http/1.1" };
            let client = client_speaking(&fixture.authority, &[protocol]);
            for round in 0_u32.. {
                let url = fixture.url(&format!("/v1/cache/client:{number}"));
                let value = format!("{number}:{round}:{}", "v".repeat(round as usize % 2000));
                let put = client.put(&url).bearer_auth(crate::fixture::KEY).body(value.clone()).send().await.unwrap();
                assert_eq!(put.status(), 204);
                let got = client.get(&url).bearer_auth(crate::fixture::KEY).send().await.unwrap();
                assert_eq!(got.status(), 200);
                assert_eq!(got.text().await.unwrap(), value);
                requests.fetch_add(2, Relaxed);
                if Instant::now() >= until {
                    break;
                }
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert!(requests.load(Relaxed) >= 512);
    let metrics = fixture.server.metrics();
    assert!(metrics.contains("cachekit_serve_connections_total 256\n"), "{metrics}");
    assert!(!metrics.contains("status=\"5xx\"") && !metrics.contains("status=\"4xx\""), "{metrics}");
}
