//! A source that answers many keys as fast as one: a list of keys costs one query, and so do tasks that ask one by one.
//!
//! `cargo run --example batch_loader`

use std::sync::Mutex;
use std::time::Duration;

use cachekit::{Cache, DataLoaderConfig};

/// What was asked, query by query.
static QUERIES: Mutex<Vec<Vec<u64>>> = Mutex::new(Vec::new());

/// `SELECT … WHERE id IN (…)`: an answer for each key, in their order.
fn select(ids: &[u64]) -> Vec<Option<String>> {
    if let Ok(mut queries) = QUERIES.lock() {
        queries.push(ids.to_vec());
    }
    ids.iter().map(|id| (*id < 100).then(|| format!("user {id}"))).collect()
}

fn queries() -> Vec<Vec<u64>> {
    QUERIES.lock().map(|mut queries| std::mem::take(&mut *queries)).unwrap_or_default()
}

fn ids(keys: &[String]) -> Vec<u64> {
    keys.iter().map(|key| key.parse().unwrap_or(u64::MAX)).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::builder().namespace("users").build()?;

    // A page of users: what is missing is one query, what stands twice is asked for once.
    let page = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<String>>();
    let load = |missing: Vec<String>| async move { select(&ids(&missing)) };
    let users = cache.get_or_load_many(&page(&[1, 2, 1, 404]), load).await?;
    let names: Vec<_> = users.iter().map(|user| user.as_deref().map(String::as_str)).collect();
    assert_eq!(names, [Some("user 1"), Some("user 2"), Some("user 1"), None]);
    assert_eq!(queries(), [[1, 2, 404]]);
    let users = cache.get_or_load_many(&page(&[1, 2, 3]), load).await?;
    assert_eq!(users.into_iter().flatten().count(), 3);
    // What was loaded is in the cache, so this asks for 3. That each value was kept is not promised: in one process of some
    // thousands two of the keys share a stripe, and one of them is asked for once more (docs/stampedes.md).
    let again = queries().concat();
    assert!(again.contains(&3) && again.iter().all(|id| [1, 2, 3].contains(id)));

    // Ten tasks that know nothing of each other. A batch is closed with its last key or at the end of its window, which would be
    // a millisecond or so in a service; here it is one that no machine outlasts.
    let config = DataLoaderConfig::default().with_max_batch(10).with_window(Duration::from_secs(60));
    let loader = cache.data_loader(config, |missing: Vec<String>| async move {
        let answers = select(&ids(&missing));
        Ok(answers.into_iter().map(|name| name.ok_or("no such user")).collect())
    });
    let asked = (10..20_u64).map(|id| loader.load(id.to_string()));
    for (id, user) in (10..20).zip(futures_util::future::join_all(asked).await) {
        assert_eq!(*user?, format!("user {id}"));
    }
    let made = queries();
    println!("10 tasks, {} queries", made.len());
    assert_eq!((made.len(), made[0].len()), (1, 10));
    Ok(())
}
