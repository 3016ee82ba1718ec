//! The facade on a real Redis: chosen by the environment, absent at first, and back again.
//!
//! What reads the environment of the process is tested by the example, which has one of its own.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use cachekit::blocking::BlockingCache;
use cachekit::{Config, ConfigError, Environment, Sources};
use cachekit_test_servers::redis::{Options, Redis};
use tracing_subscriber::fmt::MakeWriter;

fn from(variables: &[(&str, &str)]) -> Config {
    let vars = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Config::resolve(&Sources { environment: Environment::from_vars(vars), ..Sources::default() }).unwrap()
}

/// Opened as a program opens it, and waiting for as long as a busy machine may take: an answer that comes too late is a miss.
fn open(config: &Config) -> Result<BlockingCache, ConfigError> {
    Ok(cachekit::builder(config)?.deadline(PATIENCE).build()?.blocking())
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody beside the subscriber of one thread: with that alone, what other threads log for the first time is sometimes taken
/// for nobody's, by all.
static BESIDE: LazyLock<tracing::Dispatch> =
    LazyLock::new(|| tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new()));

/// What was logged at info and above.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self, word: &str) -> usize {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(word)).count()
    }
}

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

fn until(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what} within a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
    began.elapsed()
}

#[test]
fn without_a_server_l1_works_alone_and_the_tier_joins_when_the_server_appears() {
    let server = Redis::start();
    let url = server.url();
    server.kill();
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    LazyLock::force(&BESIDE);
    tracing::subscriber::with_default(subscriber, || {
        let cache = open(&from(&[("REDIS_URL", &url)])).unwrap();
        let began = Instant::now();
        for round in 0..500_u32 {
            cache.set(format!("k{round}"), &round).unwrap();
            assert_eq!(*cache.get::<u32>(format!("k{round}")).unwrap().unwrap(), round);
            assert_eq!(cache.get::<u32>(format!("absent{round}")).unwrap(), None);
        }
        // A refused connection each for the first few, then the breaker: far from a deadline for each call.
        let stats = cache.stats();
        println!("1500 calls without a server: {:?}, {stats:?}", began.elapsed());
        assert!(stats.l2_errors >= 1000 && stats.l2_shed > 900 && stats.l2_timeouts == 0, "{stats:?}");
        assert_eq!(log.lines("WARN"), 1, "told once");

        server.restart();
        let joined = until("the tier joins", || {
            cache.set("back", &1_u32).unwrap();
            server.command(&["EXISTS", "ck:default:back"]) == "1"
        });
        println!("the tier joined {joined:?} after the server was there");
        assert_eq!((log.lines("WARN"), log.lines("answers again")), (1, 1));
    });
}

#[test]
fn an_outage_is_told_when_it_begins_and_when_it_ends() {
    let server = Redis::start();
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    LazyLock::force(&BESIDE);
    tracing::subscriber::with_default(subscriber, || {
        let config = from(&[("CACHEKIT_REDIS_URL", &server.url())]);
        let cache = cachekit::builder(&config).unwrap().without_l1();
        let cache = cache.deadline(PATIENCE).build().unwrap().blocking();
        for _ in 0..2 {
            cache.set("k", &1_u32).unwrap();
            let told = log.lines("WARN");
            server.kill();
            until("the outage is noticed", || cache.get::<u32>("k").unwrap().is_none());
            (0..20).for_each(|_| assert_eq!(cache.get::<u32>("k").unwrap(), None));
            // Once, or once more for another state: a server that dies soon after it was connected to looks like one that
            // refuses its callers.
            let news = log.lines("WARN") - told;
            assert!((1..=2).contains(&news), "{news}");
            server.restart();
            until("the server is found again", || {
                cache.set("k", &1_u32).unwrap();
                cache.get::<u32>("k").unwrap().is_some()
            });
        }
        assert_eq!(log.lines("answers again"), 2);
    });
}

#[test]
fn every_variable_of_redis_reaches_a_server() {
    let server = Redis::start();
    let config = from(&[
        ("CACHEKIT_REDIS_URL", &server.url()),
        ("CACHEKIT_CONNECTION_POOL_SIZE", "20"),
        ("CACHEKIT_SOCKET_TIMEOUT", "20.5"),
        ("CACHEKIT_SOCKET_CONNECT_TIMEOUT", "20.5"),
        ("CACHEKIT_SOCKET_KEEPALIVE", "false"),
        ("CACHEKIT_DEFAULT_TTL", "3600"),
    ]);
    let cache = open(&config).unwrap();
    cache.set("k", &1_u32).unwrap();
    let left: u64 = server.command(&["PTTL", "ck:default:k"]).parse().unwrap();
    assert!((3_590_000..=3_600_000).contains(&left), "{left}");
    // A socket is a way to the same server.
    let socket = format!("unix://{}", server.socket().display());
    let other = open(&from(&[("REDIS_URL", &socket)])).unwrap();
    assert_eq!(*other.get::<u32>("k").unwrap().unwrap(), 1);
}

#[test]
fn what_others_write_is_seen_at_once_unless_the_environment_says_otherwise() {
    let server = Redis::start();
    let url = server.url();
    let listening = |listen: &str| {
        let variables = [("CACHEKIT_REDIS_URL", url.as_str()), ("CACHEKIT_INVALIDATION_LISTENER_ENABLED", listen)];
        open(&from(&variables)).unwrap()
    };
    let (follows, does_not, writer) = (listening("true"), listening("false"), listening("false"));
    let value = |cache: &BlockingCache| *cache.get::<u32>("k").unwrap().unwrap();
    writer.set("k", &1_u32).unwrap();
    until("it is told of changes", || value(&follows) == 1 && follows.cache().is_coherent());
    assert_eq!((value(&follows), value(&does_not)), (1, 1));
    writer.set("k", &2_u32).unwrap();
    let seen = until("the change is seen", || value(&follows) == 2);
    println!("seen after {seen:?}");
    assert!(seen < Duration::from_secs(20), "before L1's own cap of 30 s");
    assert_eq!((value(&does_not), does_not.cache().is_coherent()), (1, false), "L1 keeps what it has, up to its cap");
}

#[test]
fn the_same_program_changes_its_store_by_its_file_alone() {
    let server = Redis::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cachekit.toml");
    let type_of = |toml: String| {
        std::fs::write(&file, toml).unwrap();
        let config = Config::resolve(&Sources { file: Some(file.clone()), ..Sources::default() })?;
        let cache = open(&config)?;
        cache.set("k", &7_u32).unwrap();
        assert_eq!(*cache.get::<u32>("k").unwrap().unwrap(), 7);
        Ok::<_, ConfigError>(cache.health().tier.map(|tier| tier.unwrap().backend_type))
    };
    let redis = format!("[[tier]]\nbackend = \"{}/3\"\n[tier.options]\n", server.url());
    let directory = format!("[[tier]]\nbackend = \"file://{}\"\n", dir.path().join("store").display());
    assert_eq!(type_of(format!("{redis}tenant = \"default\"\n")).unwrap().as_deref(), Some("redis"));
    assert_eq!(server.command(&["-n", "3", "EXISTS", "t:default:ck:default:k"]), "1");
    assert_eq!(type_of(directory).unwrap().as_deref(), Some("file"));
    assert_eq!(type_of("[[tier]]\nbackend = \"none\"\n".into()).unwrap(), None);
    for (option, tell) in
        [("max_value = 0", "max_value = 0"), ("pool = 3", "unknown field `pool`"), ("ttl = 7", "ttl: takes")]
    {
        let error = type_of(format!("{redis}\n{option}\n")).unwrap_err().to_string();
        assert!(error.contains(tell) && error.contains("cachekit.toml:5"), "{error}");
    }
}

#[test]
fn refused_and_unauthorized_are_told_apart_and_no_password_is_told() {
    let server = Options::new().with_password("right").start();
    let health = |url: &str| {
        let cache = cachekit::open(&from(&[("CACHEKIT_REDIS_URL", url)])).unwrap().blocking();
        cache.health().tier.unwrap().err().unwrap()
    };
    let wrong = health(&format!("redis://:hunter2@127.0.0.1:{}", server.port()));
    assert_eq!(wrong.kind().as_str(), "auth", "{wrong}");
    server.kill();
    let refused = health(&format!("redis://:hunter2@127.0.0.1:{}", server.port()));
    assert_eq!(refused.kind().as_str(), "transient", "{refused}");
    for error in [wrong, refused] {
        let text = format!("{error} {error:?}");
        assert!(text.contains(&server.port().to_string()) && !text.contains("hunter2"), "{text}");
    }
}

/// Where cargo puts it, which builds it with the tests; after a build of this test alone it is built now.
fn example() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let example = deps.parent().unwrap().parent().unwrap().join("examples/redis_from_env");
    if !example.exists() {
        let built =
            Command::new(env!("CARGO")).args(["build", "-p", "cachekit", "--example", "redis_from_env"]).status();
        assert!(built.unwrap().success());
    }
    example
}

/// The example, as a user of it would start it.
#[test]
fn the_example_runs_with_a_server_and_without() {
    let server = Redis::start();
    let example = example();
    let run = |url: &str| {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(&example);
        command.env_clear().env("HOME", home.path()).env("REDIS_URL", url).stdin(Stdio::null());
        let output = command.output().expect("the example starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = run(&server.url());
    assert!(first.starts_with("computing November\nasync: November: 42\nsecond tier: redis"), "{first}");
    assert!(first.ends_with("blocking: November: 42\n"), "{first}");
    assert!(!run(&server.url()).contains("computing"), "another process finds what the first one stored");
    server.kill();
    let alone = run(&server.url());
    assert!(alone.contains("computing November") && alone.contains("not there"), "{alone}");
}
