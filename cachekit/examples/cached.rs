//! Functions whose answers are kept: `#[cached]`, in a function, a method and a function that is not async.
//!
//! `cargo run --example cached`

use std::sync::atomic::{AtomicU32, Ordering};

use cachekit::{Cache, cached};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("no such user")]
struct NoSuchUser;

/// Stands for one that is far away.
#[derive(Default)]
struct Database {
    queries: AtomicU32,
}

impl Database {
    async fn user(&self, id: u64) -> Result<User, NoSuchUser> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        if id == 0 { Err(NoSuchUser) } else { Ok(User { id, name: format!("user {id}") }) }
    }
}

/// The database is a means to get the answer and no part of the question.
#[cached(ttl = "10m", namespace = "users", skip(database))]
async fn user(database: &Database, id: u64) -> Result<User, NoSuchUser> {
    database.user(id).await
}

struct Prices {
    tenant: String,
    cache: Cache,
}

impl Prices {
    /// Each tenant has his own.
    #[cached(cache = self.cache, key_by = (&self.tenant, article))]
    fn of(&self, article: u32) -> Option<u32> {
        (article > 0).then(|| article * 100 + self.tenant.len() as u32)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // In the process alone; without this line the cache that the environment describes is opened.
    let cache = Cache::builder().build()?;
    cachekit::set_default_cache(Some(cache.clone()));

    let database = Database::default();
    for _ in 0..3 {
        assert_eq!(user(&database, 42).await?.name, "user 42");
    }
    assert_eq!(database.queries.load(Ordering::Relaxed), 1);

    // Errors are returned and not kept.
    assert_eq!(user(&database, 0).await, Err(NoSuchUser));
    assert_eq!(user(&database, 0).await, Err(NoSuchUser));
    assert_eq!(database.queries.load(Ordering::Relaxed), 3);

    // After a write: forget it, or say what is true now.
    assert!(user_invalidate_cache(42).await?);
    user_prime_cache(42, &User { id: 42, name: "Ada".into() }).await?;
    assert_eq!(user(&database, 42).await?.name, "Ada");
    assert_eq!(user_refresh_cache(&database, 42).await?.name, "user 42");
    println!("{} is kept; {:?}", user_cache_key(42)?, user_cache_stats());

    let prices = |tenant: &str| Prices { tenant: tenant.into(), cache: cache.clone() };
    let (one, two) = (prices("a"), prices("bb"));
    assert_eq!((one.of(7), one.of(7), two.of(7), one.of(0)), (Some(701), Some(701), Some(702), None));
    assert_eq!((Prices::of_cache_stats().hits, Prices::of_cache_stats().misses), (1, 3));
    Ok(())
}
