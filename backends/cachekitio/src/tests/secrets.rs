//! API key, keys and values: looked for in everything that is printed or logged, by this crate and by those it stands on.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachekit_plugin::open::Services;
use cachekit_plugin::{Backend, Bytes, CacheActivity, Cx, HostServices, Key, Locks, LogLevel, Open, Ttl};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::server::{Server, Step, raw, reply};
use super::stub;
use crate::backend::CachekitIoBackend;

const CANARIES: [&str; 4] = ["canary-api-key", "canary-entry", "canary-value", "canary-lease"];

/// Everything that was written to it.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Paper {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl log::Log for Paper {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let _ = writeln!(self.clone(), "{} {}", record.target(), record.args());
    }
    fn flush(&self) {}
}

impl Services for Paper {
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &[(&str, &str)]) {
        let _ = writeln!(self.clone(), "{level:?} {target} {message} {fields:?}");
    }
    fn secret(&self, _: &str) -> Result<String, String> {
        Ok("canary-api-key".into())
    }
    fn activity(&self) -> Option<CacheActivity> {
        Some(CacheActivity::default())
    }
}

#[tokio::test]
async fn no_secret_is_ever_printed_or_logged() {
    let paper = Paper::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(paper.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    log::set_boxed_logger(Box::new(paper.clone())).unwrap();
    log::set_max_level(log::LevelFilter::Trace);

    let key = Key::from_wire(b"canary-entry");
    let answers = [
        reply(200, &[], b"canary-value"),
        reply(401, &[], b"canary-value"),
        reply(302, &[("Location", b"https://canary-value/")], b""),
        reply(503, &[], b"canary-value"),
        raw("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncanary-value"),
        raw("canary-value\r\n\r\n"),
        raw("HTTP/1.1 200 canary-value\r\ncanary-value\r\n\r\n"),
        reply(200, &[], b"{\"lock_id\": \"canary-lease\", \"ttl\": \"canary-value\", \"version\": \"1\"}"),
        vec![Step::Hang],
    ];
    for answer in answers {
        let server = Server::plain(move |_, _| answer.clone()).await;
        let host = HostServices::new(Arc::new(paper.clone()));
        let backend = CachekitIoBackend::open(stub::plain(server.port()).with_timeout(0.1), host).unwrap();
        let (cx, mut out) = (Cx::within(Duration::from_secs(5)), paper.clone());
        let mut print = |error: Option<cachekit_plugin::BackendError>| {
            if let Some(error) = error {
                let mut cause: Option<&dyn std::error::Error> = Some(&error);
                while let Some(error) = cause {
                    writeln!(out, "{error} {error:?}").unwrap();
                    cause = error.source();
                }
            }
        };
        print(backend.get(key, &cx).await.err());
        print(backend.set(key, Bytes::from_static(b"canary-value"), Ttl::Never, &cx).await.err());
        print(backend.delete(key, &cx).await.err());
        print(cachekit_plugin::Expiry::ttl(&backend, key, &cx).await.err());
        print(backend.lock(key, b"canary-lease", 1000, &cx).await.err());
        print(backend.unlock(key, b"canary-lease", &cx).await.err());
        match backend.health(&cx).await {
            Ok(health) => writeln!(paper.clone(), "{health:?}").unwrap(),
            Err(error) => print(Some(error)),
        }
        assert!(format!("{:?}", server.requests()).contains("canary-api-key"), "the service is told");
    }
    let text = paper.text();
    assert!(text.contains("reqwest") && text.contains("without encryption"), "the logs were caught: {text}");
    for canary in CANARIES {
        let line = text.lines().find(|line| line.contains(canary));
        assert_eq!(line, None, "{canary} was printed");
    }
}
