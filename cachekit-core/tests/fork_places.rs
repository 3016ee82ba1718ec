//! A child made by `fork()` begins with every place free: what its parent's calls held at that moment, nobody gives back to
//! it. A program of its own without the test harness, because a process that forks should have one thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cachekit_conformance::{Memory, MemoryConfig};
use cachekit_core::Cache;
use cachekit_core::blocking::wait;
use cachekit_core::codec::Dictionary;
use cachekit_core::guard::bulkhead::BulkheadConfig;
use cachekit_core::tier::chain::TierSpec;
use cachekit_plugin::{Backend, Clear, Cx, Fut, Health, Key, Limits, Ttl};

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn alarm(seconds: u32) -> u32;
    fn _exit(status: i32) -> !;
}

/// A store that answers nothing while it hangs.
struct Hanging {
    inner: Memory,
    hangs: AtomicBool,
    /// The same for dictionaries alone.
    keeps_dictionaries: AtomicBool,
    asked: AtomicU32,
}

impl Hanging {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Memory::new(MemoryConfig::default()),
            hangs: AtomicBool::new(false),
            keeps_dictionaries: AtomicBool::new(false),
            asked: AtomicU32::new(0),
        })
    }

    async fn pass(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

impl Backend for Hanging {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move {
            self.pass().await;
            if key.as_bytes().starts_with(b"ck::dictionary:") && self.keeps_dictionaries.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            self.inner.get(key, cx).await
        })
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            self.pass().await;
            self.inner.set(key, value, ttl, cx).await
        })
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            self.pass().await;
            self.inner.delete(key, cx).await
        })
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.inner.exists(key, cx)
    }
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.inner.health(cx)
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            self.pass().await;
            self.inner.close(cx).await
        })
    }
    fn clear(&self) -> Option<&dyn Clear> {
        Backend::clear(&self.inner)
    }
}

/// Lets a call go as far as it comes, and leaves it there.
fn begin<T>(call: std::pin::Pin<&mut impl Future<Output = T>>) {
    assert!(matches!(call.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending), "the call did not hang");
}

/// What the child finds; its exit status.
async fn in_child(cache: &Cache, store: &Hanging) -> i32 {
    store.hangs.store(false, Ordering::SeqCst);
    if let Err(error) = cache.get::<u32>("free").await {
        eprintln!("{error:?}");
        return 1;
    }
    match () {
        // Of the key that the parent is setting, so it needs the same turn.
        () if cache.set("held", &2_u32).await.is_err() => 2,
        () if !matches!(cache.get::<u32>("held").await, Ok(Some(two)) if *two == 2) => 3,
        // The parent's load of this key flies no more.
        () if !matches!(cache.get_or_load("loaded", async || 3_u32).await, Ok(three) if *three == 3) => 4,
        () if cache.delete("held").await.is_err() => 5,
        // Which waits until no write of the namespace is under way.
        () if cache.clear().await.is_err() => 6,
        () => 0,
    }
}

fn forked(work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child has one thread, as its parent had but for the one that rings deadlines; it ends by its own call, or by
    // the alarm if it waits for somebody who is not there.
    unsafe {
        let pid = fork();
        assert!(pid >= 0, "no child");
        if pid == 0 {
            alarm(120);
            _exit(work());
        }
        let mut status = -1;
        assert_eq!(waitpid(pid, &mut status, 0), pid);
        status
    }
}

fn a_child_has_the_places_of_its_parents_calls(with_front: bool) {
    let store = Hanging::new();
    let mut places = BulkheadConfig::default();
    (places.in_flight, places.queued) = (3, 0);
    let builder = Cache::builder().backend(Arc::clone(&store) as Arc<dyn Backend>).without_l1().strict(true);
    let builder = builder.bulkhead(places).without_breaker().without_retry();
    let builder = match with_front {
        true => builder.tier(TierSpec::new("front", Arc::new(Memory::new(MemoryConfig::default())))),
        false => builder,
    };
    let cache = builder.deadline(std::time::Duration::from_secs(60)).build().expect("it is built");
    wait(async { cache.set("held", &1_u32).await }).expect("it is kept");

    store.hangs.store(true, Ordering::SeqCst);
    let asked = store.asked.load(Ordering::SeqCst);
    let mut set = pin!(cache.set("held", &7_u32));
    let mut get = pin!(cache.get::<u32>("other"));
    let mut load = pin!(cache.get_or_load("loaded", async || 7_u32));
    begin(set.as_mut());
    begin(get.as_mut());
    begin(load.as_mut());
    assert_eq!(store.asked.load(Ordering::SeqCst), asked + 3, "three calls are with the store");
    let status = forked(|| wait(in_child(&cache, &store)));
    assert_eq!(status, 0, "the child (front: {with_front}) failed at step {}", status >> 8);
    // And a child of a child as well.
    let status = forked(|| {
        store.hangs.store(false, Ordering::SeqCst);
        if wait(async { cache.set("held", &3_u32).await }).is_err() {
            return 7;
        }
        let status = forked(|| wait(in_child(&cache, &store)));
        (status >> 8) | (status & 0x7f)
    });
    assert_eq!(status, 0, "the grandchild (front: {with_front}) failed at step {}", status >> 8);
    // The parent has them still.
    assert!(wait(async { cache.get::<u32>("free").await }).is_err(), "a fourth call finds no place");
}

/// Something of which much comes again.
fn profile(number: u64) -> String {
    let dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let fields =
        (0..8).map(|at| format!("\"permission_{at}\": \"{}\", ", ["read", "write"][(dice >> at) as usize & 1]));
    format!("{{\"display_name\": \"user {dice:x}\", {}\"country\": \"{}\"}}", fields.collect::<String>(), dice % 97)
}

fn a_child_fetches_the_dictionary_that_its_parent_is_fetching() {
    let samples: Vec<String> = (0..500).map(profile).collect();
    let trained = zstd::dict::from_samples(&samples, 4 << 10).expect("they have much in common");
    let dictionary = Dictionary::new(trained).expect("it is one");
    let store = Hanging::new();
    let build = || Cache::builder().backend(Arc::clone(&store) as Arc<dyn Backend>).without_l1().strict(true);
    let writer = build().dictionary(dictionary).build().expect("it is built");
    wait(async {
        writer.prepare().await?;
        writer.set("k", &profile(1_000)).await
    })
    .expect("it is kept");
    let reader = build().without_breaker().without_retry().deadline(std::time::Duration::from_secs(60));
    let reader = reader.build().expect("it is built");
    store.keeps_dictionaries.store(true, Ordering::SeqCst);
    let asked = store.asked.load(Ordering::SeqCst);
    let mut get = pin!(reader.get::<String>("k"));
    begin(get.as_mut());
    assert_eq!(store.asked.load(Ordering::SeqCst), asked + 2, "the entry came, and its dictionary hangs");
    let status = forked(|| {
        store.keeps_dictionaries.store(false, Ordering::SeqCst);
        let found = wait(async { reader.get::<String>("k").await });
        i32::from(!matches!(&found, Ok(Some(found)) if **found == profile(1_000)))
    });
    assert_eq!(status, 0, "the child had to do without the dictionary");
}

fn a_child_ends_the_cache_that_its_parent_is_ending() {
    let store = Hanging::new();
    let cache = Cache::builder().backend(Arc::clone(&store) as Arc<dyn Backend>).without_breaker().without_retry();
    let cache = cache.deadline(std::time::Duration::from_secs(60)).build().expect("it is built");
    store.hangs.store(true, Ordering::SeqCst);
    let mut close = pin!(cache.close());
    begin(close.as_mut());
    assert_eq!(store.asked.load(Ordering::SeqCst), 1, "the store is ending");
    let status = forked(|| {
        store.hangs.store(false, Ordering::SeqCst);
        i32::from(wait(async { cache.close().await }).is_err())
    });
    assert_eq!(status, 0, "the child waited for its parent");
}

fn main() {
    a_child_fetches_the_dictionary_that_its_parent_is_fetching();
    a_child_ends_the_cache_that_its_parent_is_ending();
    a_child_has_the_places_of_its_parents_calls(false);
    a_child_has_the_places_of_its_parents_calls(true);
    println!("children of one and of two tiers began with every place free");
}
