//! A server written by hand that lies: about lengths, numbers, keys, ends, and about what it is.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use cachekit_backend_memcached::{MemcachedBackend, MemcachedConfig};
use cachekit_plugin::{Backend, BackendError, Bytes, Cx, Kind, Retry};
use cachekit_test_servers::process::resident_kb;

use super::{k, open};

const GREETING: &[u8] = b"VERSION 1.6.18\r\nSTAT pid 1\r\nSTAT uptime 1\r\nSTAT time 1700000001\r\nEND\r\nMN\r\n";

/// Seconds for what is answered in the end, by a lie.
const PATIENT: f64 = 20.0;
/// Seconds for what is not.
const SHORT: f64 = 0.3;

fn patience_for(kind: Kind) -> f64 {
    if kind == Kind::Timeout { SHORT } else { PATIENT }
}

/// Answers every connection: the greeting, and then `lie(stream, line)` for every line it reads. Ends with the process.
fn liar(
    greeting: &'static [u8],
    patience: f64,
    lie: impl Fn(&mut TcpStream, &str) -> std::io::Result<()> + Send + Sync + 'static,
) -> MemcachedBackend {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let lie = Arc::new(lie);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let lie = Arc::clone(&lie);
            std::thread::spawn(move || {
                let mut writer = stream.try_clone()?;
                let mut lines = BufReader::new(stream).lines();
                while let Some(Ok(line)) = lines.next() {
                    match &*line {
                        "version" | "stats" => {}
                        "mn" => writer.write_all(greeting)?,
                        _ => lie(&mut writer, &line)?,
                    }
                }
                Ok::<(), std::io::Error>(())
            });
        }
    });
    open(MemcachedConfig::new([address]).with_timeout(patience).with_connect_timeout(patience))
}

fn token(line: &str) -> &str {
    line.rsplit(" O").next().unwrap()
}

async fn ask(backend: &MemcachedBackend) -> Result<Option<Bytes>, BackendError> {
    backend.get(k("k"), &Cx::within(Duration::from_secs(30))).await
}

/// The first two connections are lied on, so that the one repetition of a read is lied to as well.
#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_an_error_and_no_lie_is_a_value() {
    type Lie = fn(&mut TcpStream, &str) -> std::io::Result<()>;
    let lies: [(&str, Kind, Lie); 13] = [
        ("another number", Kind::Corrupt, |to, _| to.write_all(b"VA 3 kk O99\r\nbad\r\n")),
        ("no number", Kind::Corrupt, |to, _| to.write_all(b"VA 3 kk\r\nbad\r\n")),
        ("another key", Kind::Corrupt, |to, line| write!(to, "VA 3 kother O{}\r\nbad\r\n", token(line))),
        ("a longer value", Kind::Corrupt, |to, line| write!(to, "VA 3 kk O{}\r\nbad!\r\n", token(line))),
        ("a shorter value", Kind::Timeout, |to, line| write!(to, "VA 30 kk O{}\r\nbad\r\n", token(line))),
        ("a huge value", Kind::Timeout, |to, line| write!(to, "VA 1048576 kk O{}\r\nbad\r\n", token(line))),
        ("an impossible value", Kind::Corrupt, |to, line| write!(to, "VA 1073741824 kk O{}\r\nbad\r\n", token(line))),
        ("a negative length", Kind::Corrupt, |to, line| write!(to, "VA -3 kk O{}\r\nbad\r\n", token(line))),
        ("another protocol", Kind::Corrupt, |to, _| to.write_all(b"VALUE k 0 3\r\nbad\r\nEND\r\n")),
        ("found without a value", Kind::Corrupt, |to, line| write!(to, "HD kk O{}\r\n", token(line))),
        ("silence", Kind::Timeout, |_, _| Ok(())),
        ("an error text with a secret", Kind::Transient, |to, _| to.write_all(b"SERVER_ERROR secret bytes\r\n")),
        ("goodbye", Kind::Transient, |to, _| to.shutdown(std::net::Shutdown::Both)),
    ];
    for (name, kind, lie) in lies {
        let backend = liar(GREETING, patience_for(kind), lie);
        let error = ask(&backend).await.expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{name}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_an_end_is_left_early() {
    let backend = liar(GREETING, PATIENT, |to, _| {
        loop {
            to.write_all(&[b'x'; 4096])?;
        }
    });
    let before = resident_kb(std::process::id());
    let error = ask(&backend).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Corrupt, Retry::Now), "{error}");
    let grown = resident_kb(std::process::id()).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} kB");
}

/// Announced: a gigabyte, 200 times. Taken: nothing like it.
#[tokio::test(flavor = "multi_thread")]
async fn announced_lengths_take_no_memory() {
    let backend = liar(GREETING, SHORT, |to, line| write!(to, "VA 1048000 kk O{}\r\nbad", token(line)));
    let before = resident_kb(std::process::id());
    for _ in 0..20 {
        let error = backend.get(k("k"), &Cx::within(Duration::from_millis(20))).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Timeout | Kind::Transient), "{error}");
    }
    let grown = resident_kb(std::process::id()).saturating_sub(before);
    println!("{grown} kB more");
    assert!(grown < 64 << 10, "{grown} kB");
}

/// An answer before the question has a number nobody gave out yet, and ends the connection before anybody asks on it.
#[tokio::test(flavor = "multi_thread")]
async fn answers_ahead_of_questions_are_not_taken() {
    let backend = liar(GREETING, PATIENT, |to, line| {
        let next: u64 = token(line).parse::<u64>().unwrap() + 1;
        write!(to, "EN kk O{}\r\nVA 3 kk O{next}\r\nbad\r\n", token(line))
    });
    let mut values = 0;
    for _ in 0..50 {
        match ask(&backend).await {
            Ok(found) => values += u64::from(found.is_some()),
            Err(error) => assert!(matches!(error.kind(), Kind::Corrupt | Kind::Transient), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(values, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_memcached_of_ours_is_told_apart() {
    for (name, greeting, kind) in [
        ("an old one", &b"VERSION 1.4.25\r\nEND\r\nERROR\r\n"[..], Kind::Config),
        ("one with passwords", b"CLIENT_ERROR unauthenticated\r\n", Kind::Auth),
        ("a Redis", b"-ERR unknown command 'version'\r\n", Kind::Corrupt),
        ("a web server", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", Kind::Corrupt),
        ("a silent one", b"", Kind::Timeout),
        ("half a greeting", b"VERSION 1.6.18\r\nSTAT pid", Kind::Timeout),
    ] {
        let backend = liar(greeting, patience_for(kind), |_, _| Ok(()));
        let error = ask(&backend).await.expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_greeting_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || while stream.write_all(b"STAT x 1\r\n").is_ok() {});
        }
    });
    let backend = open(MemcachedConfig::new([address]).with_connect_timeout(PATIENT));
    assert_eq!(ask(&backend).await.unwrap_err().kind(), Kind::Corrupt);
}
