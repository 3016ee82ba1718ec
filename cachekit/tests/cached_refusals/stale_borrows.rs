//! A refresh outlives the call that began it.

struct Service;

#[cachekit::cached(ttl = "10m", stale = "1m", skip(connection))]
async fn borrows(connection: &str, id: u32) -> u32 {
    let _ = connection;
    id
}

impl Service {
    #[cachekit::cached(ttl = "10m", stale = "1m", skip(self))]
    async fn method(&self, id: u32) -> u32 {
        id
    }
}

fn main() {}
