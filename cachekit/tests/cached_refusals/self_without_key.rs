//! What of an object belongs to the key is for its author to say.

struct Service {
    tenant: u32,
}

impl Service {
    #[cachekit::cached(ttl = "10m")]
    fn price(&self, article: u32) -> u32 {
        self.tenant + article
    }

    #[cachekit::cached(ttl = "10m", skip(self))]
    fn change(&mut self, article: u32) -> u32 {
        self.tenant += article;
        self.tenant
    }
}

fn main() {}
