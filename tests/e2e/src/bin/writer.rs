#![forbid(unsafe_code)]
//! Writes, reads and deletes in a shared directory until it is killed: `writer DIRECTORY SEED`.
//!
//! Every value says which key it belongs to, so that a reader knows a wrong one when it sees it. What this process itself
//! reads is checked too: it ends with 1 and says so.

use std::time::Duration;

use cachekit::{Cache, SetOptions};
use cachekit_backend_file::{FileBackend, FileConfig};
use cachekit_e2e::values;
use cachekit_plugin::{HostServices, Open};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, seed] = arguments.as_slice() else { panic!("usage: writer DIRECTORY SEED") };
    let mut dice: u64 = seed.parse().expect("the seed is a number");
    let backend = FileBackend::open(FileConfig::new(directory), HostServices::none()).expect("the directory is usable");
    let cache =
        Cache::builder().backend(std::sync::Arc::new(backend)).without_l1().build().expect("it has no bad setting");
    let cache = cache.blocking();
    loop {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (key, size) = (dice >> 33 & 63, (dice >> 40 & 0x7fff) as usize);
        match dice >> 60 {
            0..=8 => {
                let options = SetOptions::default().with_ttl(Duration::from_secs(3600));
                // A busy directory may time a write out; only wrong bytes are a failure here.
                let _ = cache.set_bytes(values::key(key), &values::value(key, size, dice), options);
            }
            9 => drop(cache.delete(values::key(key))),
            _ => {
                if let Ok(Some(found)) = cache.get_bytes(values::key(key))
                    && !values::is_right(key, &found)
                {
                    eprintln!("writer: a wrong value under key {key}");
                    std::process::exit(1);
                }
            }
        }
    }
}
