#![forbid(unsafe_code)]
//! Many callers of one process who want one key at the same time: `crowd URL CALLERS HOLD_MS PATIENCE_MS LOCKS LOAD_MS VALUE`.
//!
//! `LOCKS` is `fenced`, `unfenced` or `none`. Says `ready`, waits for a line, and says `loading` when its loader begins. At the end
//! it says how many callers got which value, and what the cache counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cachekit::Cache;
use cachekit_backend_redis::RedisBackend;
use cachekit_core::guard::fill_lock::FillLocks;
use cachekit_plugin::{HostServices, Open};
use serde_json::json;

const USAGE: &str = "usage: crowd URL CALLERS HOLD_MS PATIENCE_MS LOCKS LOAD_MS VALUE";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, callers, hold, patience, locks, load, value] = arguments.as_slice() else { panic!("{USAGE}") };
    let number = |text: &String| text.parse::<u64>().expect(USAGE);
    let (hold, patience) = (Duration::from_millis(number(hold)), Duration::from_millis(number(patience)));
    let (load, value) = (Duration::from_millis(number(load)), number(value));

    let options = json!({ "url": url }).to_string();
    let backend = RedisBackend::open_json(options.as_bytes(), HostServices::none()).expect("the URL is right");
    let fills = FillLocks::default().with_hold(hold).with_patience(patience).with_fence(locks == "fenced");
    // A minute: a server that is busy on a busy machine is no outage.
    let builder = Cache::builder().backend(Arc::new(backend)).deadline(Duration::from_secs(60)).fill_locks(fills);
    // Deaf to changes by others, so that it is the store that decides and not an event that comes in time.
    let builder = builder.coherence(false);
    let builder = if locks == "none" { builder.without_fill_locks() } else { builder };
    let cache = builder.build().expect("it has no bad setting");

    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the test says when");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let got = runtime.expect("the system has threads").block_on(async {
        let callers: Vec<_> = (0..number(callers))
            .map(|_| {
                let cache = cache.clone();
                tokio::spawn(async move {
                    let loader = async || {
                        println!("loading");
                        tokio::time::sleep(load).await;
                        value
                    };
                    cache.get_or_load("cold", loader).await.map(|value| *value)
                })
            })
            .collect();
        let mut got = BTreeMap::<String, u64>::new();
        for caller in callers {
            let value = caller.await.expect("no caller panics");
            *got.entry(value.map_or_else(|error| error.to_string(), |value| value.to_string())).or_default() += 1;
        }
        got
    });
    println!("{}", json!({ "got": got, "stats": cache.stats() }));
}
