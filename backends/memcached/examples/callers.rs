//! Operations per second with 1, 16 and 256 callers on one real server: this backend, the classic client of the crate
//! `memcache` on blocking threads, and its pooled meta client. Build it optimised.
//!
//! Each figure is the best of three rounds that take turns, so that a busy machine hurts all of them alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_backend_memcached::{MemcachedBackend, MemcachedConfig};
use cachekit_plugin::{Backend, Cx, HostServices, Key, Open, Ttl};
use cachekit_test_servers::memcached::Memcached;
use memcache::exp::AsyncMetaClient;
use tokio::runtime::Runtime;

const KEYS: u64 = 1000;
const ROUND: Duration = Duration::from_millis(800);

fn key(number: u64) -> String {
    format!("users:get_user:61598716255080080f6456eb065c2e51badfaa4320b0efe97469c29cffee{:04}", number % KEYS)
}

fn rate(done: u64, began: Instant) -> u64 {
    (done as f64 / began.elapsed().as_secs_f64()) as u64
}

fn ours(runtime: &Runtime, backend: &Arc<MemcachedBackend>, callers: u64, write: bool) -> u64 {
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let backend = Arc::clone(backend);
            runtime.spawn(async move {
                let (mut done, value) = (0, Bytes::from(vec![b'v'; 100]));
                while began.elapsed() < ROUND {
                    let (cx, key) = (Cx::within(Duration::from_secs(1)), key(caller * 7919 + done));
                    let key = Key::from_wire(key.as_bytes());
                    if write {
                        backend.set(key, value.clone(), Ttl::Never, &cx).await.unwrap();
                    } else {
                        assert!(backend.get(key, &cx).await.unwrap().is_some());
                    }
                    done += 1;
                }
                done
            })
        })
        .collect();
    let done = runtime.block_on(async {
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        done
    });
    rate(done, began)
}

fn classic(client: &memcache::Client, callers: u64, write: bool) -> u64 {
    let (began, done) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for caller in 0..callers {
            let done = &done;
            scope.spawn(move || {
                let mut mine = 0;
                while began.elapsed() < ROUND {
                    let key = key(caller * 7919 + mine);
                    if write {
                        client.set(&key, &[b'v'; 100][..], 0).unwrap();
                    } else {
                        assert!(client.get::<Vec<u8>>(&key).unwrap().is_some());
                    }
                    mine += 1;
                }
                done.fetch_add(mine, Ordering::Relaxed);
            });
        }
    });
    rate(done.into_inner(), began)
}

fn pooled(runtime: &Runtime, client: &AsyncMetaClient, callers: u64) -> u64 {
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let client = client.clone();
            runtime.spawn(async move {
                let mut done = 0;
                while began.elapsed() < ROUND {
                    // Its pool may be exhausted, which is an answer too, but none that counts.
                    done += u64::from(client.get(key(caller * 7919 + done)).send().await.is_ok());
                }
                done
            })
        })
        .collect();
    let done = runtime.block_on(async {
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        done
    });
    rate(done, began)
}

fn main() {
    let server = Memcached::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let pool: u32 = std::env::args().nth(1).and_then(|pool| pool.parse().ok()).unwrap_or(10);
    let config = MemcachedConfig::new([server.addr()]).with_max_pool_size(pool);
    let backend = Arc::new(MemcachedBackend::open(config, HostServices::none()).unwrap());
    let blocking = memcache::Client::builder()
        .add_server(format!("memcache://{}", server.addr()))
        .unwrap()
        .with_max_pool_size(64)
        .build()
        .unwrap();
    let pooled_client = runtime.block_on(AsyncMetaClient::connect(server.addr())).unwrap();
    for number in 0..KEYS {
        runtime.block_on(async {
            let cx = Cx::within(Duration::from_secs(1));
            let key = key(number);
            backend.set(Key::from_wire(key.as_bytes()), vec![b'v'; 100].into(), Ttl::Never, &cx).await.unwrap();
        });
    }
    println!(
        "{:>8} {:>12} {:>12} {:>14} {:>14} {:>14}",
        "callers", "our get", "our set", "classic get", "classic set", "pooled get"
    );
    for callers in [1, 16, 256] {
        let mut best = [0; 5];
        for _ in 0..3 {
            best[0] = best[0].max(ours(&runtime, &backend, callers, false));
            best[1] = best[1].max(ours(&runtime, &backend, callers, true));
            best[2] = best[2].max(classic(&blocking, callers, false));
            best[3] = best[3].max(classic(&blocking, callers, true));
            best[4] = best[4].max(pooled(&runtime, &pooled_client, callers));
        }
        println!("{callers:>8} {:>12} {:>12} {:>14} {:>14} {:>14}", best[0], best[1], best[2], best[3], best[4]);
    }
    let began = Instant::now();
    let keys: Vec<String> = (0..100).map(key).collect();
    let keys: Vec<Key<'_>> = keys.iter().map(|key| Key::from_wire(key.as_bytes())).collect();
    let mut batches = 0;
    while began.elapsed() < ROUND {
        let cx = Cx::within(Duration::from_secs(1));
        let answers = runtime.block_on(backend.batch().unwrap().get_many(&keys, &cx)).unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Some(_)))));
        batches += 1;
    }
    println!(
        "get_many of 100 keys by one caller: {} batches/s, {} keys/s",
        rate(batches, began),
        rate(batches * 100, began)
    );
}
