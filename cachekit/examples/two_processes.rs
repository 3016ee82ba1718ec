//! Two processes on one Redis, in coherence: each serves from its own memory, and neither serves what the other has changed.
//!
//! `CACHEKIT_REDIS_URL=redis://localhost:6379/0 cargo run --example two_processes`
//!
//! The program starts itself once more as the other process. Values live in L1 for a day here, so that nothing but what Redis
//! tells of can be the reason that a change is seen.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cachekit::{Cache, SetOptions};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    if std::env::args().nth(1).as_deref() == Some("other") {
        return other();
    }
    let cache = open()?;
    let calls = cache.clone().blocking();
    let mut child =
        Command::new(std::env::current_exe()?).arg("other").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut to, from) = (child.stdin.take().ok_or("it is piped")?, child.stdout.take().ok_or("it is piped")?);
    let mut from = BufReader::new(from).lines();
    let mut ask = |line: &str| -> Result<String, Failure> {
        writeln!(to, "{line}")?;
        Ok(from.next().ok_or("the other process has ended")??)
    };

    // From the first use on, the store is asked to tell of changes by others.
    calls.get::<String>("price/tea")?;
    until("Redis tells of changes", || Ok(cache.is_coherent()))?;

    // A value of the other process is read once and then served from this one's memory.
    assert_eq!(ask("set price/tea 3 drinks")?, "done");
    assert_eq!(calls.get::<String>("price/tea")?.as_deref(), Some(&"3".to_owned()));
    until("it is in L1", || {
        let hits = hits(&cache);
        calls.get::<String>("price/tea")?;
        Ok(hits < self::hits(&cache))
    })?;
    println!("tea is 3, served from memory");

    // The other process writes: this one does not serve the older value any longer.
    assert_eq!(ask("set price/tea 4 drinks")?, "done");
    let after =
        until("the new price is seen", || Ok(calls.get::<String>("price/tea")?.as_deref() == Some(&"4".to_owned())))?;
    println!("tea is 4, seen {after:?} after the other process had written it");

    // The same for everything under a tag, however many entries that are.
    calls.set_with("price/cocoa", "5", SetOptions::default().with_tag("drinks"))?;
    assert_eq!(ask("get price/cocoa")?, "5");
    assert_eq!(ask("invalidate drinks")?, "done");
    let gone = || Ok(calls.get::<String>("price/tea")?.is_none() && calls.get::<String>("price/cocoa")?.is_none());
    let after = until("the drinks are gone", gone)?;
    println!("the drinks are gone, {after:?} after the other process had invalidated them");

    // And the other way round.
    calls.set("price/bread", "2")?;
    assert_eq!(ask("get price/bread")?, "2");
    calls.delete("price/bread")?;
    assert_eq!(calls.get::<String>("price/bread")?, None, "at once in the process that deleted it");
    until("the other process has seen the deletion", || Ok(ask("get price/bread")? == "nothing"))?;
    println!("bread is sold out in both");

    drop(to);
    assert!(child.wait()?.success());
    calls.close()?;
    Ok(())
}

/// What both processes do.
fn open() -> Result<Cache, Failure> {
    let config = cachekit::config_from_env()?;
    let day = Duration::from_secs(24 * 3600);
    let builder = cachekit::builder(&config)?.namespace("two-processes").l1_ttl_cap(day);
    // An answer that comes too late is a miss, and this program takes a miss for a price that is gone.
    Ok(builder.deadline(Duration::from_secs(5)).build()?)
}

/// The other process does what it is told, line by line.
fn other() -> Result<(), Failure> {
    let cache = open()?;
    let calls = cache.clone().blocking();
    calls.get::<String>("nothing")?;
    until("Redis tells of changes", || Ok(cache.is_coherent()))?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let answer = match line.split(' ').collect::<Vec<_>>()[..] {
            ["set", key, value, tag] => {
                calls.set_with(key, value, SetOptions::default().with_tag(tag))?;
                "done".to_owned()
            }
            ["invalidate", tag] => {
                calls.invalidate_tag(tag)?;
                "done".to_owned()
            }
            ["get", key] => calls.get::<String>(key)?.map_or_else(|| "nothing".to_owned(), |value| value.to_string()),
            _ => return Err(format!("{line:?} is not understood").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

fn hits(cache: &Cache) -> u64 {
    cache.stats().l1.map_or(0, |l1| l1.hits)
}

/// How long it took. What takes ten seconds does not happen.
fn until(what: &str, mut reached: impl FnMut() -> Result<bool, Failure>) -> Result<Duration, Failure> {
    let began = Instant::now();
    while !reached()? {
        if began.elapsed() > Duration::from_secs(10) {
            return Err(format!("not within ten seconds: {what}").into());
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(began.elapsed())
}
