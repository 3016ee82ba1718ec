//! `cachekit run`: a command's output, stored once and replayed byte for byte.
//!
//! ```text
//! look ─ hit ─► replay
//!   └─ miss ─► lease of the key ─ held by another ─► wait, look again, …
//!                └─ taken ─► look again ─► run, showing and keeping its output ─► store ─► give the lease back
//! ```
//! The job comes first: whatever is wrong with the store, the command runs, and what is wrong is a warning. Two
//! things alone keep it from running: a mistake in the configuration, because then nobody knows what was meant, and an entry
//! that a cache which encrypts and fails closed must not accept, because then somebody has to look.

mod child;
mod lease;

use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use blake2::{Blake2b, Digest, digest::consts::U32};
use cachekit::{Cache, Error, SetOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::child::{Ended, NotStarted, Streams};
use self::lease::Lease;
use super::entries::text;
use crate::cli::RunArgs;
use crate::exit::{Class, Failure, Outcome};
use crate::output::{Output, as_text, escaped, hex, print_error_document};
use crate::session::{self, Session};

/// What is stored of a command that ended by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    exit_code: u8,
    #[serde(with = "serde_bytes")]
    stdout: Vec<u8>,
    #[serde(with = "serde_bytes")]
    stderr: Vec<u8>,
}

/// First pause between two looks at a command that another process runs; doubled up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Last pause: what a waiter may lose at most, against two cheap questions per second to the store.
const LAST_PAUSE: Duration = Duration::from_millis(500);

pub(super) fn run(args: &RunArgs, session: &Session) -> Result<Outcome, Failure> {
    let key = match &args.key {
        Some(key) => key.as_bytes().to_vec(),
        None => default_key(args)?,
    };
    let config = session.config()?;
    let fails_closed = config.encryption_enabled.value && config.encryption_fail_closed.value;
    let job = Job { args, key, output: session.output, max_bytes: config.max_value.value, fails_closed };
    let cache = match session::open(config) {
        Ok(cache) => cache,
        Err(failure) if failure.class() == Class::Unavailable => {
            job.warn("the store cannot be opened, so the command runs uncached", &failure);
            return job.run_alone();
        }
        Err(failure) => return Err(failure),
    };
    job.memoized(&cache)
}

struct Job<'a> {
    args: &'a RunArgs,
    key: Vec<u8>,
    output: Output,
    max_bytes: u64,
    /// What an encrypting cache must not accept ends the run, instead of being replaced.
    fails_closed: bool,
}

/// What a look into the store found.
enum Look {
    Hit(Recorded),
    /// Nothing, or something damaged that may be replaced.
    Miss,
    /// A store that is down, or an entry that is somebody else's: run, and leave the store alone.
    HandsOff,
}

impl Job<'_> {
    fn memoized(&self, cache: &Cache) -> Result<Outcome, Failure> {
        // A refresh asks nobody: neither the store for what it has nor another process for what it will have.
        let lease = if self.args.refresh { self.lease(cache) } else { self.hit_or_lease(cache)? };
        let lease = match lease {
            Turn::Hit(recorded) => return self.replay(&recorded),
            Turn::HandsOff => return self.run_alone(),
            Turn::Mine(lease) => lease,
        };
        let ran = child::run(&self.args.command, self.streams());
        let stored = matches!(&ran, Ok(Ok(ended)) if self.store(cache, ended));
        // Whatever became of the command: others wait for the lease, and the store may have to end in order.
        drop(lease);
        if let Err(error) = cache.blocking().close() {
            self.warn("the store did not end in order", &error.into());
        }
        self.finish(ran?, stored)
    }

    /// Runs the command without the store.
    fn run_alone(&self) -> Result<Outcome, Failure> {
        self.finish(child::run(&self.args.command, self.streams())?, false)
    }

    /// With `--json` the output of the command goes into the document and nowhere else.
    fn streams(&self) -> Streams {
        Streams { live: !self.output.is_json(), max_bytes: self.max_bytes }
    }

    fn look(&self, cache: &Cache) -> Result<Look, Failure> {
        match cache.blocking().get::<Recorded>(&self.key) {
            Ok(Some(recorded)) => Ok(Look::Hit((*recorded).clone())),
            Ok(None) => Ok(Look::Miss),
            Err(Error::Refused(cachekit::codec::Refusal::Decode(_))) => {
                let key = escaped(&self.key);
                self.output.warn(&format!("{key} holds no output of a command; it is left alone, the command runs"));
                Ok(Look::HandsOff)
            }
            Err(Error::Refused(refusal)) if self.fails_closed && refusal.is_alarm() => {
                Err(Error::Refused(refusal).into())
            }
            Err(error @ Error::Refused(_)) => {
                self.warn("what is stored was refused and will be replaced", &error.into());
                Ok(Look::Miss)
            }
            Err(error @ Error::Backend(_)) => {
                self.warn("the store failed, so the command runs uncached", &error.into());
                Ok(Look::HandsOff)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the output is there or it is this process's turn to make it.
    fn hit_or_lease(&self, cache: &Cache) -> Result<Turn, Failure> {
        let give_up = Instant::now().checked_add(self.args.wait);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.look(cache)? {
                Look::Hit(recorded) => return Ok(Turn::Hit(recorded)),
                Look::HandsOff => return Ok(Turn::HandsOff),
                Look::Miss => {}
            }
            match Lease::take(cache, &self.key) {
                Ok(lease::Answer::Taken(lease)) => {
                    // The holder before may have stored its output between our look and its unlocking.
                    return Ok(match self.look(cache)? {
                        Look::Hit(recorded) => Turn::Hit(recorded),
                        Look::HandsOff => Turn::HandsOff,
                        Look::Miss => Turn::Mine(Some(lease)),
                    });
                }
                Ok(lease::Answer::HeldByAnother) => {}
                // Without leases every process that misses runs the command.
                Ok(lease::Answer::NoLeases) => return Ok(Turn::Mine(None)),
                Err(failure) => {
                    self.warn("no lease could be taken, so others may run the command as well", &failure);
                    return Ok(Turn::Mine(None));
                }
            }
            if give_up.is_some_and(|give_up| Instant::now() >= give_up) {
                self.output.warn("another process still runs this command; it is run here too");
                return Ok(Turn::Mine(None));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// A lease if there is one to have, so that others wait for a refresh too.
    fn lease(&self, cache: &Cache) -> Turn {
        match Lease::take(cache, &self.key) {
            Ok(lease::Answer::Taken(lease)) => Turn::Mine(Some(lease)),
            _ => Turn::Mine(None),
        }
    }

    /// Whether the output was stored.
    fn store(&self, cache: &Cache, ended: &Ended) -> bool {
        let Ended { exit_code: Some(exit_code), stdout: Some(stdout), stderr: Some(stderr), .. } = ended else {
            if ended.too_large {
                self.output.warn(&format!("the output is larger than {} bytes and is not stored", self.max_bytes));
            }
            return false;
        };
        if ended.interrupted || (self.args.success_only && *exit_code != 0) {
            return false;
        }
        let recorded = Recorded { exit_code: *exit_code, stdout: stdout.clone(), stderr: stderr.clone() };
        let options = SetOptions::default().with_ttl(self.args.ttl);
        match cache.blocking().set_with(&self.key, &recorded, options) {
            Ok(()) => true,
            Err(error) => {
                self.warn("the output could not be stored", &error.into());
                false
            }
        }
    }

    fn replay(&self, recorded: &Recorded) -> Result<Outcome, Failure> {
        let Recorded { exit_code, stdout, stderr } = recorded;
        if self.output.is_json() {
            self.document(true, false, Some(*exit_code), Some(stdout), Some(stderr))?;
        } else {
            child::to_stderr(stderr);
            match self.output.bytes(stdout) {
                Ok(()) | Err(Failure::Closed) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(Outcome::Child(*exit_code))
    }

    fn finish(&self, ran: Result<Ended, NotStarted>, stored: bool) -> Result<Outcome, Failure> {
        let ended = match ran {
            Ok(ended) => ended,
            Err(NotStarted { code, what }) => {
                child::to_stderr(format!("cachekit: {what}\n").as_bytes());
                if self.output.is_json() {
                    print_error_document("not_started", &what);
                }
                return Ok(Outcome::Child(code));
            }
        };
        if self.output.is_json() {
            let (stdout, stderr) = (ended.stdout.as_deref(), ended.stderr.as_deref());
            self.document(false, stored, ended.exit_code, stdout, stderr)?;
        }
        Ok(Outcome::Child(ended.code()))
    }

    fn document(
        &self,
        hit: bool,
        stored: bool,
        exit_code: Option<u8>,
        stdout: Option<&[u8]>,
        stderr: Option<&[u8]>,
    ) -> Result<(), Failure> {
        self.output.document(&json!({
            "key": as_text(&self.key),
            "hit": hit,
            "stored": hit || stored,
            "exit_code": exit_code,
            "stdout": stdout.map(text),
            "stdout_hex": stdout.map(hex),
            "stderr": stderr.map(text),
            "stderr_hex": stderr.map(hex),
        }))
    }

    fn warn(&self, what: &str, failure: &Failure) {
        self.output.warn(&format!("{what}: {}", failure.lines().join(": ")));
    }
}

/// What a process that wants the output does next.
enum Turn {
    Hit(Recorded),
    HandsOff,
    Mine(Option<Lease>),
}

/// `run:` and a digest of everything that is taken to decide the output: the command with its arguments, the working
/// directory, and the variables that were named. Each part stands with its length, so that no two lists look alike.
fn default_key(args: &RunArgs) -> Result<Vec<u8>, Failure> {
    let mut digest = Blake2b::<U32>::new();
    let mut part = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    let dir = std::env::current_dir().map_err(Failure::io("the working directory is unknown; give --key"))?;
    part(dir.as_os_str().as_bytes());
    part(&(args.command.len() as u64).to_le_bytes());
    args.command.iter().for_each(|word| part(word.as_bytes()));
    for name in &args.env {
        part(name.as_bytes());
        match std::env::var_os(name) {
            Some(value) => {
                part(b"set");
                part(value.as_bytes());
            }
            None => part(b"unset"),
        }
    }
    Ok(format!("run:{}", hex(&digest.finalize())).into_bytes())
}
