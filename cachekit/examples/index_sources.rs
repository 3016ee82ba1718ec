//! A program with an expensive job: an index of a source tree. It does not know where its cache keeps things; its
//! configuration does.
//!
//! `index_sources --config cachekit.toml DIRECTORY`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit::{Cache, Config, EngineServices, Environment, Sources};
use serde::{Deserialize, Serialize};

/// What is known of one file: which words stand in it, and how alike its lines are.
#[derive(Serialize, Deserialize)]
struct Index {
    words: BTreeMap<String, u32>,
    lines: u32,
    /// Sum of edit distances between lines that stand close to each other: what makes the job worth caching.
    churn: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(flag), Some(config), Some(directory)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: index_sources --config cachekit.toml DIRECTORY".into());
    };
    if flag != "--config" {
        return Err(format!("unknown option {flag}").into());
    }
    let config = Config::resolve(&Sources {
        file: Some(config.into()),
        environment: Environment::of_process(),
        ..Sources::default()
    })?;
    let store = config.open_tier(&cachekit::built_in(), EngineServices::shared())?;
    let store = store.ok_or("the configuration names no [[tier]]")?;
    let build = || config.builder(&cachekit::built_in(), EngineServices::shared());
    let files = sources(Path::new(&directory))?;
    println!("{} source files, {} KiB", files.len(), files.iter().map(|(_, size)| size).sum::<u64>() / 1024);

    // Two caches over one opened store: the second has an empty L1, as another process would.
    let cache = build()?.backend(Arc::clone(&store)).build()?;
    pass("as started        ", &cache, &files)?;
    pass("again             ", &cache, &files)?;
    let elsewhere = build()?.backend(store).build()?;
    pass("with an empty L1  ", &elsewhere, &files)?;
    println!("stats of the first cache: {}", serde_json::to_string(&cache.stats())?);
    cache.blocking().close()?;
    Ok(())
}

/// Indexes every file through the cache and says what that took.
fn pass(name: &str, cache: &Cache, files: &[(PathBuf, u64)]) -> Result<(), Box<dyn std::error::Error>> {
    let (before, began) = (cache.stats(), Instant::now());
    let (mut words, mut churn) = (0, 0);
    for (path, _) in files {
        let text = std::fs::read_to_string(path)?;
        // The key says what the job depends on: a file that changes gets a new index.
        let key = format!("index/{}/{:016x}", path.display(), fingerprint(&text));
        let index = cache.blocking().get_or_load(&key, || index(&text))?;
        words += index.words.len();
        churn += index.churn;
    }
    let (took, after) = (began.elapsed(), cache.stats());
    let l1 = |stats: &cachekit::Stats| stats.l1.as_ref().map_or(0, |l1| l1.hits);
    println!(
        "{name} {:>9}   from L1 {:>3}, from the store {:>3}, computed {:>3}   ({words} words, churn {churn})",
        milliseconds(took),
        l1(&after) - l1(&before),
        after.l2_hits - before.l2_hits,
        after.loads - before.loads,
    );
    if after.l2_errors > 0 || !after.refused.is_empty() {
        return Err(format!("the store failed: {after:?}").into());
    }
    Ok(())
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

/// How many lines after a line are compared with it.
const NEIGHBOURS: usize = 12;

/// The expensive job.
fn index(text: &str) -> Index {
    let mut words = BTreeMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| word.len() > 2) {
        *words.entry(word.to_owned()).or_insert(0) += 1;
    }
    let lines: Vec<&str> = text.lines().collect();
    let close = |line: &[&str]| line[1..].iter().map(|next| distance(line[0].as_bytes(), next.as_bytes())).sum::<u64>();
    let churn = lines.windows(NEIGHBOURS + 1).map(close).sum();
    Index { words, lines: lines.len() as u32, churn }
}

/// Levenshtein's, row by row.
fn distance(a: &[u8], b: &[u8]) -> u64 {
    let mut row: Vec<u64> = (0..=b.len() as u64).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i as u64 + 1;
        for (j, y) in b.iter().enumerate() {
            let best = (corner + u64::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = row[j + 1];
            row[j + 1] = best;
        }
    }
    row[b.len()]
}

/// FNV-1a: enough to tell versions of a file apart.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The Rust and C sources below a directory, with their sizes.
fn sources(root: &Path) -> Result<Vec<(PathBuf, u64)>, std::io::Error> {
    let (mut files, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir)? {
            let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type()))?;
            let hidden =
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.') || name == "target");
            if hidden {
                continue;
            }
            if kind?.is_dir() {
                open.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "rs" || extension == "c" || extension == "h")
            {
                let size = path.metadata()?.len();
                files.push((path, size));
            }
        }
    }
    files.sort();
    Ok(files)
}
