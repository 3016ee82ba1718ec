//! No key, password, cache key or value is heard outside the store: not in a log at its loudest, not in an error, not in
//! what a program prints about itself.
//!
//! Canaries are given to a cache wherever one takes something secret, everything is done with it that goes well and that
//! fails, and all that was said meanwhile is looked through for each canary in every spelling (`src/canaries.rs`). That the
//! ears are open is tested as well: what is leaked on purpose is heard, and so are words that should be.

use std::fmt::Debug;
use std::io::Write;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use cachekit::{Cache, Config, Environment, LoadOptions, SetOptions, Sources};
use cachekit_core::codec::Refusal;
use cachekit_e2e::artifacts;
use cachekit_e2e::canaries::{Canary, all_of, leaks};
use cachekit_test_servers::redis::{Options, Redis};
use serde_json::json;

const KEY: &str = "c0ffee5ec2e7ca9a7100112233445566778899aabbccddeeff0a1b2c3d4e5f60";
const PREVIOUS: &str = "0dd5ec2e7ca9a71e55443322110099887766ffeeddccbbaa0f1e2d3c4b5a6978";
const PASSWORD: &str = "canary-password-7Qx";
const WRONG_PASSWORD: &str = "canary-mistaken-3Zk";
const API_KEY: &str = "ck_live_canary_api_4Vt9";
const CACHE_KEY: &str = "canary-key-of-ada@example.org";
const VALUE: &str = "canary-value-of-ada-8Hs";

/// What is secret whoever reads it: nobody is shown these, at any request.
fn secrets() -> Vec<Canary> {
    let mut all = vec![
        Canary::new("the password", PASSWORD),
        Canary::new("a password that is wrong", WRONG_PASSWORD),
        Canary::new("the API key", API_KEY),
    ];
    all.extend(Canary::of_hex("the master key", KEY));
    all.extend(Canary::of_hex("the previous key", PREVIOUS));
    all
}

/// And what is shown to nobody but the one who asked for it.
fn everything() -> Vec<Canary> {
    let mut all = secrets();
    all.extend([Canary::new("a cache key", CACHE_KEY), Canary::new("a value", VALUE)]);
    all
}

/// All that is said while a test runs.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<u8>>>);

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a program would print.
    fn hear(&self, said: impl AsRef<str>) {
        self.heard().extend_from_slice(said.as_ref().as_bytes());
        self.heard().push(b'\n');
    }

    fn debug(&self, what: impl Debug) {
        self.hear(format!("{what:?}\n{what:#?}"));
    }

    /// What an operation answered, if that was an error. Of an answer nothing is heard: it is for the caller.
    fn error<T, E: std::error::Error + 'static>(&self, answer: Result<T, E>) -> bool {
        answer.map_err(|error| self.hear(all_of(&error))).is_err()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.heard()).into_owned()
    }

    #[track_caller]
    fn has_heard_none_of(&self, canaries: &[Canary]) {
        let found = leaks(canaries, &self.text());
        assert!(found.is_empty(), "{found:#?}");
    }
}

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.heard().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One for the whole process, because subscribers of threads do not hear what the tasks of others say.
fn log() -> &'static Ear {
    static EAR: std::sync::LazyLock<Ear> = std::sync::LazyLock::new(Ear::default);
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(|| EAR.clone())
            .init();
        log::set_logger(&LibraryLog).expect("no other logger");
        log::set_max_level(log::LevelFilter::Trace);
    });
    &EAR
}

/// What libraries say to `log`, such as those of TLS.
struct LibraryLog;

impl log::Log for LibraryLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        crate::log().hear(format!("{} {} {}", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// A configuration of a file and variables, as `from_env` finds them.
fn resolve(file: &str, variables: &[(&str, &str)]) -> Result<Config, cachekit::ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cachekit.toml");
    std::fs::write(&path, file).unwrap();
    let environment = Environment::from_vars(variables.iter().map(|(name, value)| (name.into(), value.into())));
    Config::resolve(&Sources { file: Some(path), environment, ..Sources::default() })
}

fn url(server: &Redis, password: &str) -> String {
    format!("redis://:{password}@{}", server.addr())
}

/// A cache by the preset `secure` on that server.
fn secure(server: &Redis, password: &str, key: &str, more: &str) -> (Config, Cache) {
    let url = url(server, password);
    let variables = [("CACHEKIT_REDIS_URL", url.as_str()), ("CACHEKIT_MASTER_KEY", key)];
    let mut config = resolve(&format!("preset = \"secure\"\nstrict = true\n{more}"), &variables).unwrap();
    config.deadline.set(Some(Duration::from_secs(5)), cachekit::Source::Code("deadline"));
    let cache = cachekit::open(&config).unwrap();
    (config, cache)
}

/// What a program may print of a cache and its configuration at any time.
async fn describe(ear: &Ear, config: &Config, cache: &Cache) {
    ear.debug(config);
    ear.debug(config.show());
    ear.hear(serde_json::to_string(&config.show()).unwrap());
    ear.debug(cache);
    ear.debug(cache.tier());
    ear.debug(cache.stats());
    ear.hear(serde_json::to_string(&cache.stats()).unwrap());
    ear.debug(cache.health().await);
    ear.debug(cache.hot_keys(10));
    ear.debug(config.keyring());
    ear.debug(config.encryption());
    ear.error(config.keyring());
}

/// Each operation once. The number of those that failed.
async fn work(ear: &Ear, cache: &Cache) -> usize {
    let options = || SetOptions::default().with_ttl(Duration::from_secs(60)).with_tag("users");
    let many = async |keys: Vec<&str>| keys.iter().map(|_| Some(VALUE.to_owned())).collect();
    let fails = async |_: ()| Err::<String, _>(std::io::Error::other("no such user"));
    let loaded = LoadOptions::default().with_ttl(Duration::from_secs(60)).with_stale(Duration::from_secs(60));
    let outcomes = [
        ear.error(cache.set(CACHE_KEY, VALUE).await),
        ear.error(cache.set_with(CACHE_KEY, VALUE, options()).await),
        ear.error(cache.set_bytes(CACHE_KEY, VALUE.as_bytes(), options()).await),
        ear.error(cache.get::<String>(CACHE_KEY).await),
        ear.error(cache.get::<u64>(CACHE_KEY).await),
        ear.error(cache.get_bytes(CACHE_KEY).await),
        ear.error(cache.get_many::<String, _>(&[CACHE_KEY, "other"]).await),
        ear.error(cache.set_many(&[(CACHE_KEY, VALUE)], options()).await),
        ear.error(cache.get_or_load(CACHE_KEY, async || VALUE.to_owned()).await),
        ear.error(cache.get_or_load_with(CACHE_KEY, loaded, async || VALUE.to_owned()).await),
        ear.error(cache.get_or_load_many(&[CACHE_KEY, "another"], many).await),
        ear.error(cache.try_get_or_load("canary-key-of-ada@example.org-2", async || fails(()).await).await),
        ear.error(cache.exists(CACHE_KEY).await),
        ear.error(cache.ttl(CACHE_KEY).await),
        ear.error(cache.touch(CACHE_KEY, SetOptions::default().with_ttl(Duration::from_secs(9))).await),
        ear.error(cache.invalidate_tag("users").await),
        ear.error(cache.keys(None).await),
        ear.error(cache.delete(CACHE_KEY).await),
        ear.error(cache.delete_many(&[CACHE_KEY]).await),
        ear.error(cache.clear().await),
    ];
    outcomes.into_iter().filter(|failed| *failed).count()
}

#[test]
fn what_is_leaked_on_purpose_is_heard() {
    let ear = Ear::default();
    tracing::subscriber::with_default(
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer({
                let ear = ear.clone();
                move || ear.clone()
            })
            .finish(),
        || tracing::trace!(password = PASSWORD, "connecting"),
    );
    ear.error(Err::<(), _>(std::io::Error::other(format!("refused {}", url_of("127.0.0.1", WRONG_PASSWORD)))));
    ear.debug(hex(KEY));
    ear.hear(json!({ "key": CACHE_KEY, "value": VALUE }).to_string());
    ear.debug(API_KEY.as_bytes());
    ear.hear(PREVIOUS.to_uppercase());
    let mut heard: Vec<_> = leaks(&everything(), &ear.text()).into_iter().map(|leak| leak.canary).collect();
    heard.sort_unstable();
    heard.dedup();
    let mut all: Vec<_> = everything().iter().map(|canary| canary.name).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(heard, all);
}

fn url_of(host: &str, password: &str) -> String {
    format!("redis://user:{password}@{host}:6379")
}

/// The bytes a key in hex stands for.
fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_works_and_one_that_fails_say_nothing_secret() {
    let ear = log();
    let server = Options::new().with_password(PASSWORD).start();
    let previous = format!("[encryption]\nprevious_master_keys = [{{ \"$secret\" = \"file:{}\" }}]\n", {
        let dir = Box::leak(Box::new(tempfile::tempdir().unwrap()));
        let path = dir.path().join("previous");
        std::fs::write(&path, PREVIOUS).unwrap();
        path.display().to_string()
    });

    // All is well.
    let (config, cache) = secure(&server, PASSWORD, KEY, &previous);
    describe(ear, &config, &cache).await;
    // One loader fails, and a value is asked for as what it is not.
    let failed = work(ear, &cache).await;
    assert!(failed < 8, "{failed} operations failed:\n{}", ear.text());
    describe(ear, &config, &cache).await;

    // Entries that somebody altered, cut or planted, and one under a key that is no longer in the ring.
    let wire = format!("ck:default:{CACHE_KEY}");
    let reader = || secure(&server, PASSWORD, KEY, "[l1]\nenabled = false\n").1;
    for (planted, expected) in [
        (&["SETRANGE", &wire, "120", "!"][..], Refusal::Tampered),
        (&["SETRANGE", &wire, "40", "!"], Refusal::Tampered),
        (&["SET", &wire, "anything"], Refusal::Tampered),
    ] {
        cache.set(CACHE_KEY, VALUE).await.unwrap();
        server.command(planted);
        match reader().get::<String>(CACHE_KEY).await {
            Err(cachekit::Error::Refused(refusal)) => {
                assert_eq!(refusal, expected, "{planted:?}");
                ear.error(Err::<(), _>(cachekit::Error::Refused(refusal)));
            }
            other => panic!("{planted:?}: {other:?}"),
        }
        work(ear, &reader()).await;
        describe(ear, &config, &cache).await;
    }
    let (config, rotated) = secure(&server, PASSWORD, PREVIOUS, "");
    cache.set(CACHE_KEY, VALUE).await.unwrap();
    assert!(ear.error(rotated.get::<String>(CACHE_KEY).await));
    describe(ear, &config, &rotated).await;

    // Hashed keys, and a server that does not let us in.
    let (config, hashing) = secure(&server, PASSWORD, KEY, "[encryption]\nhash_keys = true\n");
    work(ear, &hashing).await;
    describe(ear, &config, &hashing).await;
    let (config, locked_out) = secure(&server, WRONG_PASSWORD, KEY, "");
    assert!(work(ear, &locked_out).await > 5, "a wrong password lets nobody in");
    describe(ear, &config, &locked_out).await;

    // And none at all.
    server.kill();
    assert!(work(ear, &cache).await > 3);
    describe(ear, &config, &cache).await;
    let _ = cache.close().await;

    let text = ear.text();
    for word in ["set", "delete", "l2", "Tampered", "WARN", "TRACE", "deadline"] {
        assert!(text.contains(word), "deaf: nobody said {word:?}");
    }
    ear.has_heard_none_of(&everything());
}

#[tokio::test]
async fn configurations_that_are_refused_are_refused_without_quoting_secrets() {
    let ear = log();
    let url = |rest: &str| format!("redis://:{PASSWORD}@{rest}");
    let long = format!("{KEY}{KEY}");
    let mut refused = 0;
    let mut cases: Vec<(String, Vec<(&str, String)>)> = Vec::new();
    let mut variables = |list: &[(&'static str, String)]| cases.push((String::new(), list.to_vec()));
    for bad in [&KEY[..40], &KEY[..63], &format!("{}zz", &KEY[..62]), &long, &format!("{KEY} ")] {
        variables(&[("CACHEKIT_MASTER_KEY", bad.to_owned()), ("CACHEKIT_BACKEND", "none".into())]);
    }
    for rest in ["", "host:99999", "host:port", "[::1", "host:6379/notanumber", "host?unknown=1", "host/0?timeout=x"] {
        variables(&[("CACHEKIT_REDIS_URL", url(rest))]);
        variables(&[("CACHEKIT_BACKEND", url(rest))]);
    }
    variables(&[("CACHEKIT_BACKEND", format!("rediss+wrong://:{PASSWORD}@host"))]);
    variables(&[("CACHEKIT_BACKEND", format!("{PASSWORD}@host"))]);
    variables(&[("CACHEKIT_BACKEND", format!("cachekitio://{API_KEY}@host"))]);
    variables(&[("CACHEKIT_BACKEND", format!("memcached://user:{PASSWORD}@host"))]);
    variables(&[("CACHEKIT_API_KEY", format!("{API_KEY}\n")), ("CACHEKIT_API_URL", "http://example.org".into())]);
    variables(&[("CACHEKIT_API_KEY", API_KEY.into()), ("CACHEKIT_MEMCACHED_SERVERS", "host".into())]);
    // Where a name is mistaken, its value may be a secret all the same.
    variables(&[("CACHEKIT_MASTERKEY", KEY.into()), ("CACHEKIT_BACKEND", "none".into())]);
    variables(&[("CACHE_KIT_MASTER_KEY", KEY.into()), ("CACHEKIT_BACKEND", "none".into())]);
    for line in [
        format!("[encryption]\nmaster_key = \"{KEY}\""),
        format!("[encryption]\nmaster_key = {{ \"$secret\" = \"{KEY}\" }}"),
        format!("[encryption]\nmaster_key = {{ secret = \"{KEY}\" }}"),
        format!("[encryption]\nmaster_key = [\"{KEY}\"]"),
        format!("[encryption]\nmaster_key = {KEY}"),
        format!("[encryption]\nmaster_key = \"{KEY}"),
        format!("[encryption]\nmasterkey = \"{KEY}\""),
        format!("[encryption]\nprevious_master_keys = \"{PREVIOUS}\""),
        format!("[encryption]\nprevious_master_keys = [\"{PREVIOUS}\"]"),
        format!("[encryption]\nenabled = \"{KEY}\""),
        format!("master_key = \"{KEY}\""),
        format!("backend = \"{}\"", url("host")),
        format!("[[tier]]\nbackend = \"{}\"\npassword = \"{PASSWORD}\"", url("host:99999")),
        format!("[[tier]]\nbackend = \"redis\"\noptions = {{ url = \"{}\", nonsense = 1 }}", url("host")),
        format!("[[tier]]\nbackend = \"redis\"\noptions = {{ password = \"{PASSWORD}\" }}"),
        format!("[[tier]]\nbackend = \"redis\"\noptions = {{ url = \"{}\" }}", url("host:99999")),
        format!("[[tier]]\nbackend = \"cachekitio\"\noptions = {{ api_key = \"{API_KEY}\" }}"),
        format!("[[tier]]\nbackend = \"cachekitio\"\noptions = {{ api_key = {{ \"$secret\" = \"{API_KEY}\" }} }}"),
        format!("[[tier]]\nbackend = \"cachekitio\"\noptions = {{ api-key = \"{API_KEY}\" }}"),
    ] {
        cases.push((line, vec![]));
    }
    for (file, variables) in &cases {
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let what = format!("--- {} {:?}", file.len(), variables.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        ear.hear(&what);
        for preset in ["", "preset = \"secure\"\n"] {
            match resolve(&format!("{preset}{file}"), &variables) {
                Err(error) => {
                    refused += 1;
                    ear.hear(all_of(&error));
                }
                Ok(config) => {
                    ear.debug(&config);
                    ear.hear(serde_json::to_string(&config.show()).unwrap());
                    refused += usize::from(ear.error(cachekit::open(&config)));
                }
            }
        }
    }
    assert!(refused > cases.len(), "only {refused} of {} were refused", 2 * cases.len());
    ear.has_heard_none_of(&everything());
}

/// The program in a home of its own, with nothing of the tester's environment.
struct Home {
    dir: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Home {
    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(artifacts::program());
        command.args(words).env_clear().env("HOME", self.dir.path()).current_dir(self.dir.path());
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command.stdin(std::process::Stdio::null()).output().unwrap()
    }

    /// Whether it ended well. What it said about itself is heard; answers are, where `answers` are nobody's.
    fn hear(&self, ear: &Ear, words: &[&str]) -> bool {
        // Who names a key or asks for keys is told them on stdout; secrets nobody is told.
        let asked_for = words[0] == "keys" || words.iter().any(|word| word.starts_with(CACHE_KEY));
        for loud in [&["-vvv"][..], &["--json", "-vvv"]] {
            let words = [words, loud].concat();
            let output = self.run(&words);
            let out = String::from_utf8_lossy(&output.stdout).into_owned();
            ear.hear(format!("--- {} {loud:?}", words[0]));
            ear.hear(String::from_utf8_lossy(&output.stderr));
            if asked_for {
                let found = leaks(&secrets(), &out);
                assert!(found.is_empty(), "{words:?}: {found:#?}");
            } else {
                ear.hear(out);
            }
            if loud == ["--json", "-vvv"] {
                return output.status.success();
            }
        }
        unreachable!("the last is loud")
    }
}

/// A key that nothing is stored under.
const ABSENT: &str = "canary-key-of-ada@example.org-absent";

const COMMANDS: &[&[&str]] = &[
    &["set", CACHE_KEY, VALUE],
    &["set", CACHE_KEY, VALUE, "--ttl", "1h"],
    &["get", CACHE_KEY],
    &["exists", CACHE_KEY],
    &["ttl", CACHE_KEY],
    &["touch", CACHE_KEY, "--ttl", "1h"],
    &["inspect", CACHE_KEY],
    &["keys"],
    &["stats"],
    &["health"],
    &["config", "show"],
    &["get", ABSENT],
    &["del", CACHE_KEY],
    &["clear"],
];

#[test]
fn the_program_prints_nothing_secret_at_its_loudest_whatever_fails() {
    let ear = Ear::default();
    let server = Options::new().with_password(PASSWORD).start();
    let mut home = Home { dir: tempfile::tempdir().unwrap(), variables: Vec::new() };
    let with = |password: &str, key: &str| {
        vec![("CACHEKIT_REDIS_URL", url(&server, password)), ("CACHEKIT_MASTER_KEY", key.to_owned())]
    };
    std::fs::write(home.dir.path().join("secure.toml"), "preset = \"secure\"\n").unwrap();
    let all = |home: &Home, ear: &Ear| {
        let run = |words: &&&[&str]| home.hear(ear, &[**words, &["--config", "secure.toml"]].concat());
        COMMANDS.iter().filter(run).count()
    };
    home.variables = with(PASSWORD, KEY);
    let well = all(&home, &ear);
    assert!(well > COMMANDS.len() / 2, "only {well} commands ended well:\n{}", ear.text());

    // An entry that was altered, and one under another key.
    let wire = format!("ck:default:{CACHE_KEY}");
    for (key, altered) in [(KEY, true), (PREVIOUS, false)] {
        home.variables = with(PASSWORD, KEY);
        assert!(home.run(&["set", CACHE_KEY, VALUE, "--config", "secure.toml"]).status.success());
        if altered {
            server.command(&["SETRANGE", &wire, "120", "!"]);
        }
        home.variables = with(PASSWORD, key);
        for words in [&["get", CACHE_KEY][..], &["inspect", CACHE_KEY], &["ttl", CACHE_KEY], &["exists", CACHE_KEY]] {
            assert!(!home.hear(&ear, &[words, &["--config", "secure.toml"]].concat()), "{words:?}");
        }
    }

    home.variables = with(WRONG_PASSWORD, KEY);
    let locked_out = all(&home, &ear);
    home.variables = with(PASSWORD, &KEY[..62]);
    let keyless = all(&home, &ear);
    server.kill();
    home.variables = with(PASSWORD, KEY);
    let down = all(&home, &ear);
    // A service that is not there, and a key for it.
    home.variables = vec![
        ("CACHEKIT_API_KEY", API_KEY.to_owned()),
        ("CACHEKIT_API_URL", "https://127.0.0.1:1".to_owned()),
        ("CACHEKIT_ALLOW_CUSTOM_HOST", "true".to_owned()),
        ("CACHEKIT_MASTER_KEY", KEY.to_owned()),
    ];
    let elsewhere = all(&home, &ear);
    for (which, count) in [("locked out", locked_out), ("keyless", keyless), ("down", down), ("elsewhere", elsewhere)] {
        assert!(count <= 3, "{which}: {count} commands ended well");
    }
    assert!(ear.text().contains("TRACE") || ear.text().contains("DEBUG"), "-vvv says nothing");
    ear.has_heard_none_of(&everything());
}
