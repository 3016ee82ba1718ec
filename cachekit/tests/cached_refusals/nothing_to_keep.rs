//! A function without a value has nothing that could be kept.

#[cachekit::cached]
fn nothing(n: u32) {
    let _ = n;
}

#[cachekit::cached]
fn unit(n: u32) -> () {
    let _ = n;
}

#[cachekit::cached]
fn unnamed(n: u32) -> impl Iterator<Item = u32> {
    0..n
}

#[cachekit::cached]
fn borrowed(text: &str) -> &str {
    text
}

#[cachekit::cached(cache_none)]
fn no_option(n: u32) -> u32 {
    n
}

#[cachekit::cached(strict)]
fn no_result(n: u32) -> Option<u32> {
    Some(n)
}

fn main() {}
