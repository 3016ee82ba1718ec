//! Lives that keep nothing, or that say no unit.

#[cachekit::cached(ttl = "0s")]
fn zero(n: u32) -> u32 {
    n
}

#[cachekit::cached(ttl = "ten minutes")]
fn words(n: u32) -> u32 {
    n
}

#[cachekit::cached(ttl = 600)]
fn number(n: u32) -> u32 {
    n
}

#[cachekit::cached(ttl = "600")]
fn text(n: u32) -> u32 {
    n
}

#[cachekit::cached(ttl = "10us")]
fn short(n: u32) -> u32 {
    n
}

#[cachekit::cached(ttl = "1m", ttl = "2m")]
fn twice(n: u32) -> u32 {
    n
}

#[cachekit::cached(ttl)]
fn nothing(n: u32) -> u32 {
    n
}

fn main() {}
