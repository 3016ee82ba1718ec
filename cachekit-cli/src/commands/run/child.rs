//! A command, its output shown as it comes and kept on the side.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Failure;

/// What becomes of the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    /// Whether it is shown as it comes.
    pub(super) live: bool,
    /// How much of it is kept at most, both streams together.
    pub(super) max_bytes: u64,
}

/// A command that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None`: a signal ended it.
    pub(super) exit_code: Option<u8>,
    signal: Option<i32>,
    /// Everything it wrote; `None` if not everything was kept.
    pub(super) stdout: Option<Vec<u8>>,
    /// As `stdout`.
    pub(super) stderr: Option<Vec<u8>>,
    /// Whether the limit is why.
    pub(super) too_large: bool,
    /// Whether somebody wanted it to end before it did: then what it wrote may be half of something.
    pub(super) interrupted: bool,
}

impl Ended {
    /// The exit code that a shell reports.
    pub(super) fn code(&self) -> u8 {
        self.exit_code.unwrap_or_else(|| 128_u8.saturating_add(u8::try_from(self.signal.unwrap_or(0)).unwrap_or(0)))
    }
}

/// A command that could not be started.
#[derive(Debug)]
pub(super) struct NotStarted {
    /// The exit code that shells give it.
    pub(super) code: u8,
    /// Which, and why.
    pub(super) what: String,
}

/// Runs a command to its end.
pub(super) fn run(command: &[OsString], streams: Streams) -> Result<Result<Ended, NotStarted>, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::Usage("there is no command".into()));
    };
    let signals = Signals::new([SIGTERM, SIGHUP, SIGINT, SIGQUIT]).map_err(Failure::io("signals cannot be handled"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match command.spawn() {
        Ok(child) => follow(child, signals, streams).map(Ok),
        Err(error) => {
            let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
            Ok(Err(NotStarted { code, what: format!("{program:?} cannot be started: {error}") }))
        }
    }
}

fn follow(mut child: Child, mut signals: Signals, streams: Streams) -> Result<Ended, Failure> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let kept = Kept { bytes: AtomicU64::new(0), overflowed: AtomicBool::new(false), max_bytes: streams.max_bytes };
    let pid = Mutex::new(Some(Pid::from_child(&child)));
    let interrupted = AtomicBool::new(false);
    let handle = signals.handle();
    let (stdout, stderr, status) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for signal in signals.forever() {
                interrupted.store(true, Ordering::Relaxed);
                forward(signal, &pid);
            }
        });
        let out =
            scope.spawn(|| stdout.map_or(Some(Vec::new()), |pipe| tee(pipe, streams.live, std::io::stdout, &kept)));
        let err = stderr.map_or(Some(Vec::new()), |pipe| tee(pipe, streams.live, std::io::stderr, &kept));
        let out = out.join().unwrap_or(None);
        let status = reap(&mut child, &pid);
        handle.close();
        (out, err, status)
    });
    let status = status.map_err(Failure::io("the command cannot be waited for"))?;
    let too_large = kept.overflowed.load(Ordering::Relaxed);
    let exit_code = status.code().and_then(|code| u8::try_from(code).ok());
    let interrupted = interrupted.into_inner();
    Ok(Ended { exit_code, signal: status.signal(), stdout, stderr, too_large, interrupted })
}

/// Waits for the end. The process is a zombie, and its number its own, until nobody can signal it any more.
fn reap(child: &mut Child, pid: &Mutex<Option<Pid>>) -> std::io::Result<ExitStatus> {
    let wait_only = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(Pid::from_child(child)), wait_only))?;
    *pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
    child.wait()
}

/// Who ends us means the command. An interrupt from a terminal goes to its whole foreground group, so the command has
/// had it already, and a second one is for many programs the order to drop everything.
fn forward(signal: i32, pid: &Mutex<Option<Pid>>) {
    let signal = match signal {
        SIGTERM => Signal::TERM,
        SIGHUP => Signal::HUP,
        _ => return,
    };
    if let Some(pid) = *pid.lock().unwrap_or_else(PoisonError::into_inner) {
        // It may have ended by itself just now.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// How much is kept, over both streams.
struct Kept {
    bytes: AtomicU64,
    overflowed: AtomicBool,
    max_bytes: u64,
}

impl Kept {
    /// Whether `len` bytes more may be kept.
    fn take(&self, len: usize) -> bool {
        let before = self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        let fits = before.saturating_add(len as u64) <= self.max_bytes && !self.overflowed.load(Ordering::Relaxed);
        if !fits {
            self.overflowed.store(true, Ordering::Relaxed);
        }
        fits
    }
}

/// Passes a stream on and keeps it; `None` if it was not kept whole. When our own reader has gone the pipe is closed, so
/// that the command learns it as it would without us.
fn tee<W: Write>(mut pipe: impl Read, live: bool, to: impl Fn() -> W, kept: &Kept) -> Option<Vec<u8>> {
    let mut whole = Some(Vec::new());
    let mut chunk = vec![0; 64 << 10];
    loop {
        let len = match pipe.read(&mut chunk) {
            Ok(0) => return whole,
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return None,
        };
        if live && to().write_all(&chunk[..len]).and_then(|()| to().flush()).is_err() {
            return None;
        }
        if !kept.take(len) {
            whole = None;
        }
        if let Some(whole) = &mut whole {
            whole.extend_from_slice(&chunk[..len]);
        }
    }
}

/// Writes to stderr; without a reader there is nobody to tell.
pub(super) fn to_stderr(bytes: &[u8]) {
    let _ = std::io::stderr().write_all(bytes);
}
