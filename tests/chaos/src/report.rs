//! What a story has to tell: what happened, what was wrong, and how long things took.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use crate::checker::Checker;
use crate::load::Tally;

/// How an outage may be told.
const OUTAGES: [&str; 4] = ["transient", "timeout", "throttled", "corrupt"];

/// The end of one story.
#[derive(Debug, Clone)]
pub struct Report {
    name: String,
    facts: Map<String, Json>,
    wrong: Vec<String>,
}

impl Report {
    /// An empty one.
    pub fn new(name: &str, seed: u64) -> Self {
        let mut report = Self { name: name.to_owned(), facts: Map::new(), wrong: Vec::new() };
        report.fact("seed", seed);
        report
    }

    /// Something that happened.
    pub fn fact(&mut self, name: &str, value: impl Into<Json>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// Something that happened so often more.
    pub fn add(&mut self, name: &str, times: u64) {
        let before = self.facts.get(name).and_then(Json::as_u64).unwrap_or_default();
        self.fact(name, before + times);
    }

    /// How often something happened.
    pub fn count(&self, name: &str) -> u64 {
        self.facts.get(name).and_then(Json::as_u64).unwrap_or_default()
    }

    /// The longest time that something took, in milliseconds.
    pub fn slowest(&mut self, name: &str, time: Duration) {
        let longest = self.facts.get(&format!("{name}_ms")).and_then(Json::as_f64).unwrap_or_default();
        if time.as_secs_f64() * 1000.0 > longest {
            self.time(name, time);
        }
    }

    /// Some time that something took, in milliseconds.
    pub fn time(&mut self, name: &str, time: Duration) {
        self.fact(&format!("{name}_ms"), (time.as_secs_f64() * 10_000.0).round() / 10.0);
    }

    /// Several of them: least, median and most.
    pub fn times(&mut self, name: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        let (Some(least), Some(most)) = (times.first(), times.last()) else { return };
        self.time(&format!("{name}_min"), *least);
        self.time(&format!("{name}_median"), times[times.len() / 2]);
        self.time(&format!("{name}_max"), *most);
    }

    /// Something that must not happen.
    pub fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    /// Something that must hold.
    pub fn holds(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }

    /// What the judge says.
    pub fn judged(&mut self, checker: &Checker) {
        let (checked, hits) = checker.checked();
        self.fact("reads_checked", checked);
        self.fact("values_checked", hits);
        self.fact("wrong_values", checker.wrong());
        self.wrong.extend(checker.said());
        // A run that saw no value has judged none.
        self.holds(hits > 0, || "no read returned a value, so nothing was judged".to_owned());
    }

    /// What became of the operations.
    pub fn tally(&mut self, tally: &Tally) {
        self.fact("operations", tally.all());
        self.fact("done", tally.done);
        self.fact("cancelled", tally.cancelled);
        for (kind, (count, said)) in &tally.failed {
            self.fact(&format!("failed_{kind}"), *count);
            self.fact(&format!("failed_{kind}_first"), said.clone());
        }
        self.time("overrun_max", tally.overrun);
        self.holds(tally.done > 0, || "no operation ended as it should".to_owned());
    }

    /// Outages were told as outages. Whoever reads the class acts on it: what is told as a wrong setting is never tried
    /// again. Not to be asked where replies are changed on the way: they say what they say.
    pub fn told_right(&mut self, tally: &Tally) {
        for (kind, (count, said)) in &tally.failed {
            self.holds(OUTAGES.contains(kind), || format!("an outage was told as {kind}, {count} times: {said}"));
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A fact by its name.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.facts.get(name)
    }

    /// Whether nothing was wrong.
    pub fn is_ok(&self) -> bool {
        self.wrong.is_empty()
    }

    /// As JSON.
    pub fn json(&self) -> Json {
        json!({ "name": self.name, "ok": self.is_ok(), "facts": self.facts, "wrong": self.wrong })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.name, if self.is_ok() { "ok" } else { "WRONG" })?;
        for (name, value) in &self.facts {
            writeln!(f, "    {name:<28} {value}")?;
        }
        self.wrong.iter().try_for_each(|wrong| writeln!(f, "    wrong: {wrong}"))
    }
}
