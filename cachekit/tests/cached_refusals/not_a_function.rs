//! What has no calls, and what cannot be called from a cache.

#[cachekit::cached]
struct Answer;

#[cachekit::cached]
const fn constant(n: u32) -> u32 {
    n
}

#[cachekit::cached]
fn pattern((a, b): (u32, u32)) -> u32 {
    a + b
}

#[cachekit::cached]
fn changed(n: &mut u32) -> u32 {
    *n
}

#[cachekit::cached(interop(namespace = "Users", operation = "get_user"))]
fn uppercase(n: u32) -> u32 {
    n
}

#[cachekit::cached(interop(namespace = "users", operation = "get_user"), key = "{n}")]
fn own_key(n: u32) -> u32 {
    n
}

#[cachekit::cached(preset = "io", cache = CACHE)]
fn two_caches(n: u32) -> u32 {
    n
}

fn main() {}
