//! Entries that belong together are forgotten together: pages of a shop, filed under the products they show.
//!
//! `cargo run --example tags`

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cachekit::{Cache, LoadOptions, SetOptions};

static RENDERED: AtomicU32 = AtomicU32::new(0);

/// A page that shows some products; what it was made of is what it is filed under.
async fn page(cache: &Cache, path: &str, products: &[u32]) -> Result<String, Box<dyn std::error::Error>> {
    let tags = products.iter().map(|product| format!("product:{product}"));
    let life = SetOptions::default().with_ttl(Duration::from_secs(3600));
    let options = LoadOptions::from(life.with_tags(tags).with_tag("pages"));
    let text = format!("{path} shows {products:?}");
    let page = cache
        .get_or_load_with(path, options, move || async move {
            RENDERED.fetch_add(1, Ordering::Relaxed);
            text
        })
        .await?;
    Ok(page.to_string())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::builder().namespace("shop").build()?;
    let pages: [(&str, &[u32]); 3] = [("/", &[1, 2]), ("/hammers", &[1]), ("/nails", &[2, 3])];
    let ask_for_all = async || {
        for (path, products) in pages {
            assert_eq!(page(&cache, path, products).await?, format!("{path} shows {products:?}"));
        }
        Ok::<u32, Box<dyn std::error::Error>>(RENDERED.swap(0, Ordering::Relaxed))
    };
    assert_eq!(ask_for_all().await?, 3);
    assert_eq!(ask_for_all().await?, 0);

    // The price of product 1 changes: two pages show it.
    cache.invalidate_tag("product:1").await?;
    assert_eq!(ask_for_all().await?, 2);
    cache.invalidate_tag("product:3").await?;
    assert_eq!(ask_for_all().await?, 1);

    // A new layout.
    cache.invalidate_tag("pages").await?;
    assert_eq!(ask_for_all().await?, 3);
    println!("{} tags were invalidated", cache.stats().tags_invalidated);
    assert_eq!(cache.stats().tags_invalidated, 3);
    Ok(())
}
