//! Callers who leave early: no later caller gets what was meant for them.

mod store;

use std::sync::Arc;
use std::time::Duration;

use cachekit_plugin::{Backend, Cx, Key};
use cachekit_test_servers::proxy::{Fault, Proxy};
use cachekit_test_servers::redis::Redis;
use serde_json::json;
use store::{get, open, set};

/// A small generator, so that a run can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_calls_that_left_early_mix_up_no_reply() {
    const KEYS: usize = 64;
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    let backend = open(json!({ "url": format!("redis://{}", proxy.addr()), "connections": 2 }));
    let keys: Arc<Vec<String>> = Arc::new((0..KEYS).map(|number| format!("key{number}")).collect());
    for key in keys.iter() {
        set(&backend, key.as_bytes(), key.as_bytes()).await.unwrap();
    }
    proxy.set(Fault::Delay(Duration::from_millis(1)));
    let callers: Vec<_> = (0..10_u64)
        .map(|caller| {
            let (backend, keys) = (Arc::clone(&backend), Arc::clone(&keys));
            tokio::spawn(async move {
                let mut random = Random(caller * 2 + 1);
                let (mut answered, mut left) = (0, 0);
                for _ in 0..500 {
                    let key = keys[random.next() as usize % KEYS].as_bytes();
                    let cx = Cx::within(Duration::from_micros(random.next() % 6_000));
                    let asking = backend.get(Key::from_wire(key), &cx);
                    // Half of them are dropped from outside, half run out of their own time.
                    let answer = if random.next().is_multiple_of(2) {
                        tokio::time::timeout(Duration::from_micros(random.next() % 4_000), asking).await
                    } else {
                        Ok(asking.await)
                    };
                    match answer {
                        Ok(Ok(found)) => {
                            assert_eq!(found.as_deref(), Some(key), "another key's value");
                            answered += 1;
                        }
                        _ => left += 1,
                    }
                }
                (answered, left)
            })
        })
        .collect();
    let (mut answered, mut left) = (0, 0);
    for caller in callers {
        let (a, l) = caller.await.unwrap();
        (answered, left) = (answered + a, left + l);
    }
    println!("{answered} answered, {left} left early");
    assert!(answered > 100 && left > 100, "{answered} answered, {left} left early");
    proxy.set(Fault::None);
    for key in keys.iter() {
        assert_eq!(get(&backend, key.as_bytes()).await.unwrap().as_deref(), Some(key.as_bytes()));
    }
}
