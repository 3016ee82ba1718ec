//! A process that does what it is told, line by line: the caches of the stories about several processes.
//!
//! ```text
//! told   load ID NAMESPACE | refresh ID NAMESPACE | set ID NAMESPACE VALUE | delete … | clear … | get …
//!        source ASKED VALUE
//! says   ask ASKED ID            the loader of operation ID wants to know the source's value
//!        done ID VALUE|-         an operation is over; what it returned, if it returns something
//!        failed ID WHAT KIND WHY
//!        stats JSON              after its input has ended
//! ```
//! There is one key per namespace. Operations run at the same time; a loader waits until it is told what the source has.

use std::collections::HashMap;
use std::io::BufRead;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cachekit_backend_redis::RedisBackend;
use cachekit_core::guard::fill_lock::FillLocks;
use cachekit_core::{Cache, Error};
use serde_json::json;
use tokio::sync::oneshot;

use crate::scenario::open;

/// The one key.
const KEY: &str = "k";

/// Questions to the source that are not answered yet.
#[derive(Default)]
struct Source {
    next: AtomicU64,
    asked: Mutex<HashMap<u64, oneshot::Sender<u64>>>,
}

impl Source {
    async fn ask(&self, id: u64) -> u64 {
        let asked = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.lock().insert(asked, answer);
        println!("ask {asked} {id}");
        answered.await.expect("the story answers every question")
    }

    fn answer(&self, asked: u64, value: u64) {
        if let Some(answer) = self.lock().remove(&asked) {
            let _ = answer.send(value);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<u64>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `chaos worker URL L1 FENCE HOLD_MS DEADLINE_US`: `L1` is `none`, `capped` or `coherent`, `FENCE` is `fenced` or `open`.
pub fn run(arguments: &[String]) -> ExitCode {
    let [url, l1, fence, hold_ms, deadline_us] = arguments else {
        eprintln!("chaos: worker URL none|capped|coherent fenced|open HOLD_MS DEADLINE_US");
        return ExitCode::from(2);
    };
    let hold = Duration::from_millis(hold_ms.parse().unwrap_or(1000));
    let locks = FillLocks::default().with_hold(hold).with_patience(Duration::from_secs(600));
    // The deadline alone ends an operation: a server or a process that waits for a processor is no outage, and after such a
    // pause all that waited would fail at once.
    let backend = open::<RedisBackend>(&json!({ "url": url, "socket_timeout": 60.0 }));
    let builder = Cache::builder()
        .backend(backend)
        .without_breaker()
        .without_bulkhead()
        .deadline(Duration::from_micros(deadline_us.parse().unwrap_or(60_000_000)))
        .default_ttl(Duration::from_secs(600))
        .fill_locks(locks.with_fence(fence == "fenced"))
        .coherence(l1 == "coherent");
    let builder = if l1 == "none" { builder.without_l1() } else { builder };
    let cache = builder.build().expect("the settings are valid");
    let runtime = super::scenario::runtime();
    let source = Arc::new(Source::default());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
        if words[0] == "source" {
            source.answer(number(1), number(2));
            continue;
        }
        let (what, id, value) = (words[0].to_owned(), number(1), number(3));
        let cache = cache.namespace(words[2]).expect("the story names its places well");
        let source = Arc::clone(&source);
        runtime.spawn(async move {
            match act(&cache, &what, id, value, &source).await {
                Ok(Some(value)) => println!("done {id} {value}"),
                Ok(None) => println!("done {id} -"),
                Err(error) => println!("failed {id} {what} {} {error}", kind(&error)),
            }
        });
    }
    println!("stats {}", json!(cache.stats()));
    ExitCode::SUCCESS
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Backend(error) => error.kind().as_str(),
        _ => "other",
    }
}

async fn act(cache: &Cache, what: &str, id: u64, value: u64, source: &Source) -> Result<Option<u64>, Error> {
    let found = match what {
        "load" => Some(*cache.get_or_load(KEY, async || source.ask(id).await).await?),
        "refresh" => Some(*cache.refresh(KEY, async || source.ask(id).await).await?),
        "get" => cache.get::<u64>(KEY).await?.map(|value| *value),
        "set" => {
            cache.set(KEY, &value).await?;
            None
        }
        "delete" => {
            cache.delete(KEY).await?;
            None
        }
        _ => {
            cache.clear().await?;
            None
        }
    };
    Ok(found)
}
