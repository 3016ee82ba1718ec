//! A connection is no part of a key.

struct Connection;

#[cachekit::cached(ttl = "10m")]
fn answer(connection: &Connection, n: u32) -> u32 {
    let _ = connection;
    n
}

fn main() {}
