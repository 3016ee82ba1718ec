//! Loads, refreshes, sets, deletes and clears of two processes, interleaved at random on one Redis: after a write has returned,
//! does an older value ever come back?
//!
//! The story is the source of all values: it counts them up, and tells a loader what the source has at the moment the loader
//! asks, but answers when it likes. So it knows of every value when it was overtaken. What it promises in whose name:
//!
//! * *one process*, with L1: from the moment a write returns, no operation that begins later returns an older value.
//! * *two processes without L1*: the same across both, because the store has nothing older.
//! * *two processes with L1 that follow each other* (`coherent`): the same once the other has been told, which is to take less
//!   than [`TOLD`].

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use cachekit_test_servers::redis::Redis;
use serde_json::Value as Json;

use super::Run;
use crate::random::Random;
use crate::report::Report;

/// How long a process that follows another may still have what the other has overwritten. A watch that went silent vouches
/// for nothing after two seconds.
pub const TOLD: Duration = Duration::from_millis(2500);

/// Episodes under way at once.
const AT_ONCE: usize = 128;
/// Short, so that a loader that is answered late has lost its lock.
const HOLD_MS: &str = "10";

/// Of how many operations one may fail: a story in which many fail judges nothing.
const MAX_FAILED: u64 = 100;

/// How the processes are set up.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    /// How many.
    pub processes: usize,
    /// `none`, `capped`, `coherent`.
    pub l1: &'static str,
    /// `fenced`, or `open` to see that it matters.
    pub fence: &'static str,
    /// How long an older value may be seen.
    pub window: Duration,
    /// What an operation may take. So long that it never passes, or so short that it always does, to see that this is noticed.
    pub deadline: Duration,
    /// What each episode does, in this order, each once the one before is done or its loader waits; then the loaders are
    /// answered. Empty: at random.
    pub script: &'static [(usize, &'static str)],
}

impl Cast {
    /// What a fence is for: another process deletes what is being loaded.
    pub const DELETED: &'static [(usize, &'static str)] = &[(0, "load"), (1, "delete")];

    /// Two that share the store and nothing else.
    pub const TWO: Self = Self {
        processes: 2,
        l1: "none",
        fence: "fenced",
        window: Duration::ZERO,
        deadline: Duration::from_secs(60),
        script: &[],
    };
}

/// One process.
pub fn one(run: &Run<'_>) -> Report {
    tell("one-process", run, Cast { processes: 1, l1: "capped", ..Cast::TWO })
}

/// Two that share the store and nothing else.
pub fn two(run: &Run<'_>) -> Report {
    tell("two-processes", run, Cast::TWO)
}

/// Two that follow each other.
pub fn coherent(run: &Run<'_>) -> Report {
    tell("two-coherent", run, Cast { l1: "coherent", window: TOLD, ..Cast::TWO })
}

/// Plays `run.size.interleavings` episodes.
pub fn tell(name: &str, run: &Run<'_>, cast: Cast) -> Report {
    let mut report = Report::new(name, run.seed);
    let Some(chaos) = run.chaos else {
        report.wrong("the story needs the path of its own program for its processes");
        return report;
    };
    let server = Redis::start();
    let (sender, said) = channel();
    let workers = (0..cast.processes).map(|at| Worker::start(chaos, &server.url(), cast, at, &sender)).collect();
    let mut stage = Stage { workers, said, cast, next: 1, whose: HashMap::new(), tally: HashMap::new() };
    let mut begun = 0_u64;
    let mut episodes: HashMap<u64, Episode> = HashMap::new();
    let mut over = 0_u64;
    let mut last_word = Instant::now();
    while over < run.size.interleavings {
        while episodes.len() < AT_ONCE && begun < run.size.interleavings {
            begun += 1;
            episodes.insert(begun, Episode::new(begun, Random::new(run.seed, begun), cast));
        }
        match stage.said.recv_timeout(Duration::from_micros(300)) {
            Ok((worker, line)) => {
                last_word = Instant::now();
                stage.hear(worker, &line, &mut episodes, &mut report);
                while let Ok((worker, line)) = stage.said.try_recv() {
                    stage.hear(worker, &line, &mut episodes, &mut report);
                }
            }
            Err(RecvTimeoutError::Timeout) if last_word.elapsed() < Duration::from_secs(60) => {}
            Err(_) => {
                report.wrong("nothing was heard of the processes for a minute");
                break;
            }
        }
        for episode in episodes.values_mut() {
            episode.go_on(&mut stage, &mut report);
        }
        let before = episodes.len();
        episodes.retain(|_, episode| !matches!(episode.act, Act::Over));
        over += (before - episodes.len()) as u64;
        if run.progress && over.is_multiple_of(100) {
            eprint!("\r{name}: {over} interleavings   ");
        }
    }
    report.fact("interleavings", over);
    let (begun, failed) = (stage.tally.values().sum::<u64>(), report.count("failed"));
    report.fact("operations", begun);
    report.holds(failed.saturating_mul(MAX_FAILED) <= begun, || {
        format!("{failed} of {begun} operations failed on a store that works, more than one in {MAX_FAILED}")
    });
    let mut tally: Vec<(&str, u64)> = stage.tally.drain().collect();
    tally.sort_unstable();
    for (what, count) in tally {
        report.fact(what, count);
    }
    for stats in stage.end() {
        for name in
            ["loads", "fills_fenced", "fill_lock_waits", "fills_by_others", "overtaken", "coalesced", "l2_errors"]
        {
            if let Some(count) = stats[name].as_u64() {
                report.add(name, count);
            }
        }
    }
    report
}

/// A process.
struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Worker {
    fn start(chaos: &Path, url: &str, cast: Cast, at: usize, sender: &Sender<(usize, String)>) -> Self {
        let mut child = Command::new(chaos)
            .args(["worker", url, cast.l1, cast.fence, HOLD_MS, &cast.deadline.as_micros().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program of this story starts");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("it is a pipe"));
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send((at, line)).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes, and whose every operation is.
struct Stage {
    workers: Vec<Worker>,
    said: Receiver<(usize, String)>,
    cast: Cast,
    next: u64,
    whose: HashMap<u64, u64>,
    tally: HashMap<&'static str, u64>,
}

impl Stage {
    fn tell(&mut self, worker: usize, line: &str) {
        if let Some(stdin) = &mut self.workers[worker].stdin {
            // A process that has ended is noticed by its silence.
            let _ = stdin.write_all(format!("{line}\n").as_bytes());
        }
    }

    fn begin(&mut self, episode: u64, worker: usize, what: &'static str, value: u64) -> u64 {
        let id = self.next;
        self.next += 1;
        self.whose.insert(id, episode);
        *self.tally.entry(what).or_default() += 1;
        self.tell(worker, &format!("{what} {id} e{episode} {value}"));
        id
    }

    fn hear(&mut self, worker: usize, line: &str, episodes: &mut HashMap<u64, Episode>, report: &mut Report) {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let id = if words[0] == "ask" { number(2) } else { number(1) };
        let episode = id.and_then(|id| self.whose.get(&id)).and_then(|episode| episodes.get_mut(episode));
        let (Some(id), Some(episode)) = (id, episode) else {
            return report.wrong(format!("said out of turn: {line}"));
        };
        match words[0] {
            "ask" => episode.asks.push((worker, number(1).unwrap_or_default(), episode.source)),
            "done" => {
                self.whose.remove(&id);
                episode.done(id, number(2), self.cast.window, report);
            }
            _ => {
                self.whose.remove(&id);
                episode.failed(id);
                // What failed has promised nothing, and is never done.
                report.add("failed", 1);
                let why = words.get(2).copied().unwrap_or_default();
                let what: String = why.split(' ').take(2).map(|word| format!("_{word}")).collect();
                report.add(&format!("failed{what}"), 1);
                if report.get(&format!("failed{what}_first")).is_none() {
                    report.fact(&format!("failed{what}_first"), why);
                }
            }
        }
    }

    /// What the processes counted.
    fn end(mut self) -> Vec<Json> {
        self.workers.iter_mut().for_each(|worker| drop(worker.stdin.take()));
        let mut stats = Vec::new();
        while stats.len() < self.workers.len()
            && let Ok((_, line)) = self.said.recv_timeout(Duration::from_secs(10))
        {
            stats.extend(line.strip_prefix("stats ").and_then(|json| serde_json::from_str(json).ok()));
        }
        stats
    }
}

/// A set, or the change of the source behind a delete or clear.
#[derive(Clone, Copy)]
struct Written {
    value: u64,
    begun: Instant,
    /// `None`: still under way.
    done: Option<Instant>,
    /// Its own value is seen through loaders alone, so it counts as done when it begins.
    is_set: bool,
}

#[derive(Clone, Copy)]
struct Doing {
    worker: usize,
    what: &'static str,
    value: u64,
    begun: Instant,
}

enum Act {
    Playing,
    /// All is done: what do the processes see now?
    Checking,
    Cleaning,
    Over,
}

/// A few operations on one key.
struct Episode {
    number: u64,
    random: Random,
    script: Vec<(usize, &'static str)>,
    source: u64,
    written: Vec<Written>,
    doing: HashMap<u64, Doing>,
    /// Loaders that wait: of which process, their question, and what the source had when they asked.
    asks: Vec<(usize, u64, u64)>,
    act: Act,
    played: Instant,
    /// How often of a hundred looks something is done, and how often that is an answer if it could be something else: slow
    /// sources and fast ones, and programs of either kind.
    haste: u64,
    answering: u64,
    /// About how long after one thing the next is done. Without a pause nearly all of them overlap, and what comes back after
    /// something has returned is not seen.
    pause: Duration,
    not_before: Instant,
    /// Nothing is done while something is under way but loaders that wait.
    orderly: bool,
    /// Who still sees what the other has overwritten, and is asked again.
    behind: Vec<usize>,
}

impl Episode {
    fn new(number: u64, mut random: Random, cast: Cast) -> Self {
        let haste = [3, 10, 60][random.below(3) as usize];
        let answering = [5, 30, 80][random.below(3) as usize];
        let given = cast.script.len() as u64;
        let length = if given == 0 { 2 + random.below(5) } else { 0 };
        let script = (0..length)
            .map(|at| {
                let worker = random.below(cast.processes as u64) as usize;
                let what = match random.below(10) {
                    _ if at == 0 => "load",
                    0..=2 => "load",
                    3 | 4 => "refresh",
                    5 | 6 => "set",
                    7 | 8 => "delete",
                    _ => "clear",
                };
                (worker, what)
            })
            .rev()
            .chain(cast.script.iter().rev().copied())
            .collect();
        let pause = Duration::from_millis([0, 2, 6][random.below(3) as usize]);
        let (haste, answering, pause) = if given == 0 { (haste, answering, pause) } else { (100, 0, Duration::ZERO) };
        Self {
            number,
            random,
            script,
            source: 1,
            written: Vec::new(),
            doing: HashMap::new(),
            asks: Vec::new(),
            act: Act::Playing,
            played: Instant::now(),
            behind: Vec::new(),
            haste,
            answering,
            pause,
            not_before: Instant::now(),
            orderly: given != 0,
        }
    }

    /// Does one of the things that could be done now, or nothing.
    fn go_on(&mut self, stage: &mut Stage, report: &mut Report) {
        match self.act {
            Act::Playing if self.script.is_empty() && self.doing.is_empty() => {
                self.act = Act::Checking;
                self.played = Instant::now();
                for worker in 0..stage.workers.len() {
                    self.begin(stage, worker, "get");
                }
            }
            Act::Playing => {
                let now = Instant::now();
                if now < self.not_before
                    || !self.random.percent(self.haste)
                    || (self.orderly && self.doing.len() != self.asks.len())
                {
                    return;
                }
                self.not_before = now + self.pause.mul_f64(self.random.below(200) as f64 / 100.0);
                let answers = self.asks.len() as u64;
                if answers > 0 && (self.script.is_empty() || self.random.percent(self.answering)) {
                    let (worker, asked, value) = self.asks.swap_remove(self.random.below(answers) as usize);
                    stage.tell(worker, &format!("source {asked} {value}"));
                } else if let Some((worker, what)) = self.script.pop() {
                    self.begin(stage, worker, what);
                }
            }
            Act::Checking if !self.behind.is_empty() => {
                for worker in std::mem::take(&mut self.behind) {
                    self.begin(stage, worker, "get");
                }
            }
            Act::Checking if self.doing.is_empty() => {
                report.slowest("all_told", self.played.elapsed());
                self.act = Act::Cleaning;
                self.begin(stage, 0, "delete");
            }
            Act::Cleaning if self.doing.is_empty() => self.act = Act::Over,
            _ => {}
        }
        // A question that came after the play, from a refresh that nobody waits for.
        if !matches!(self.act, Act::Playing)
            && let Some((worker, asked, value)) = self.asks.pop()
        {
            stage.tell(worker, &format!("source {asked} {value}"));
            report.add("late_questions", 1);
        }
    }

    fn begin(&mut self, stage: &mut Stage, worker: usize, what: &'static str) {
        let begun = Instant::now();
        let writes = matches!(what, "set" | "delete" | "clear");
        if writes {
            // The source changes first, as it does in programs; then the cache is told.
            self.source += 1;
            let is_set = what == "set";
            self.written.push(Written { value: self.source, begun, done: None, is_set });
        }
        let value = self.source;
        let id = stage.begin(self.number, worker, what, value);
        self.doing.insert(id, Doing { worker, what, value, begun });
    }

    fn done(&mut self, id: u64, returned: Option<u64>, window: Duration, report: &mut Report) {
        let Some(doing) = self.doing.remove(&id) else { return };
        if matches!(doing.what, "set" | "delete" | "clear")
            && let Some(written) = self.written.iter_mut().find(|written| written.value == doing.value)
        {
            written.done = Some(Instant::now());
        }
        let Some(value) = returned else { return };
        report.add("values_checked", 1);
        if matches!(self.act, Act::Checking)
            && !window.is_zero()
            && self.played.elapsed() < 2 * window
            && self.overtaken(value, doing.begun, Duration::ZERO).is_some()
        {
            self.behind.push(doing.worker);
        }
        if let Some(newer) = self.overtaken(value, doing.begun, window) {
            report.add("resurrected", 1);
            let (number, what) = (self.number, doing.what);
            report
                .wrong(format!("episode {number}: {what} in process {} returned {value} after {newer}", doing.worker));
        }
    }

    /// What overtook a value before an operation began, and since when it must be known.
    fn overtaken(&self, value: u64, began: Instant, window: Duration) -> Option<String> {
        let own = self.written.iter().find(|written| written.value == value);
        let own_end = match own {
            // It may land at any time until it returns.
            Some(own) if own.is_set => Some(own.done?),
            Some(own) => Some(own.begun),
            None => None,
        };
        self.written
            .iter()
            .filter(|newer| newer.value > value && own_end.is_none_or(|end| newer.begun > end))
            .find(|newer| newer.done.is_some_and(|done| done + window < began))
            .map(|newer| format!("{} had returned", newer.value))
    }

    fn failed(&mut self, id: u64) {
        self.doing.remove(&id);
    }
}
