//! A word that is spelled wrong would have no effect.

#[cachekit::cached(tll = "10m")]
fn answer(n: u32) -> u32 {
    n
}

#[cachekit::cached(ttl = "10m", compression = "zstd")]
fn other(n: u32) -> u32 {
    n
}

#[cachekit::cached(preset = "prodction")]
fn third(n: u32) -> u32 {
    n
}

#[cachekit::cached(interop(namespace = "users", operations = "get_user"))]
fn fourth(n: u32) -> u32 {
    n
}

fn main() {}
