//! Spans and events name keys by their digests. Alone in its program: while a subscriber of one thread comes, what other threads
//! log for the first time is sometimes taken for nobody's, by all.

use std::io::Write;
use std::sync::{Arc, Mutex};

use cachekit::Cache;
use cachekit_conformance::{Memory, MemoryConfig};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn spans_and_events_name_keys_by_their_digests() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let store = Arc::new(Memory::new(MemoryConfig::default()));
    let cache = Cache::builder().coherence(false).backend(store).build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let answer = cache
                .try_get_or_load("canary-key", async || {
                    tracing::info!("inside");
                    Ok::<_, std::fmt::Error>("canary-value".to_owned())
                })
                .await;
            assert_eq!(*answer.unwrap(), "canary-value");
            cache.delete("canary-key").await.unwrap();
            cache.get::<String>("canary-key").await.unwrap();
        });
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for word in ["load{key=", "l2{operation=\"get\"}", "l2{operation=\"set_if\"}", "not in the second tier", "delete"] {
        assert!(log.contains(word), "{word} is not in\n{log}");
    }
    let inside = log.lines().find(|line| line.contains("inside")).unwrap();
    assert!(inside.contains("load{key="), "what a loader logs stands in its span: {inside}");
    assert!(!log.contains("canary"), "{log}");
}
