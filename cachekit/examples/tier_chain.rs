//! A directory of this machine in front of a shared Redis: reads that leave the machine once, and go on when Redis is away.
//!
//! `CACHEKIT_REDIS_URL=redis://localhost:6379 cargo run --example tier_chain`

use std::time::Duration;

use cachekit::{Cache, TierSpec, backend};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redis = std::env::var("CACHEKIT_REDIS_URL").unwrap_or_else(|_| "redis://localhost:6379".into());
    let dir = std::env::temp_dir().join(format!("cachekit-tier-chain-{}", std::process::id()));

    // From L1 outward: first the directory, whose copies live for ten minutes at most, then the tier that counts.
    let copies = TierSpec::new("disk", backend(&format!("file://{}", dir.display()))?).ttl(Duration::from_secs(600));
    let chain = |redis: &str| -> Result<_, Box<dyn std::error::Error>> {
        let builder = Cache::builder().namespace("tier-chain").tier(copies.clone()).backend(backend(redis)?);
        // Without L1, so that this program shows the tiers behind it.
        Ok(builder.without_l1().deadline(Duration::from_secs(2)).build()?.blocking())
    };
    let here = chain(&redis)?;
    let elsewhere = Cache::builder().namespace("tier-chain").backend(backend(&redis)?).without_l1();
    let elsewhere = elsewhere.deadline(Duration::from_secs(2)).build()?.blocking();

    // Somebody else stored it. The first read here brings it from Redis, and a copy of it into the directory.
    elsewhere.set("prices", &vec![1_u32, 2, 3])?;
    assert_eq!(here.get::<Vec<u32>>("prices")?.as_deref(), Some(&vec![1, 2, 3]));
    while here.stats().fronts[0].promotions == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(here.get::<Vec<u32>>("prices")?.as_deref(), Some(&vec![1, 2, 3]));
    let disk = here.stats().fronts.remove(0);
    println!("{}: {} miss, {} promotion, {} hit", disk.name, disk.misses, disk.promotions, disk.hits);
    assert_eq!((disk.misses, disk.promotions, disk.hits), (1, 1, 1));

    // Redis out of reach: what is on this machine is still there.
    let cut_off = chain("redis://127.0.0.1:1")?;
    assert_eq!(cut_off.get::<Vec<u32>>("prices")?.as_deref(), Some(&vec![1, 2, 3]));
    println!("without Redis: {} hit on {}", cut_off.stats().fronts[0].hits, cut_off.stats().fronts[0].name);
    assert_eq!(cut_off.stats().fronts[0].hits, 1);

    // A deletion reaches every tier, or it is an error.
    assert!(cut_off.delete("prices").is_err());
    assert!(here.delete("prices")?);
    assert_eq!(here.get::<Vec<u32>>("prices")?, None);
    assert_eq!(elsewhere.get::<Vec<u32>>("prices")?, None);
    println!("deleted from both");

    here.close()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
