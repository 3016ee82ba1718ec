//! What came out: for machines as JSON, for people as one line per case.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::case::{Case, Group};

/// The outcome of one case. Also what a child process that ran one case sends to its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseResult {
    /// [`Case::name`].
    pub name: String,
    /// [`Case::group`].
    pub group: Group,
    /// Whether nothing wrong was found.
    pub ok: bool,
    /// Why the claim could not be put to this backend: a power it does not offer (its absence was checked instead), or
    /// something the harness cannot open. Such a case is `ok`, and is counted in [`Report::not_asked`] as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_because: Option<String>,
    /// What was wrong; empty if nothing was.
    #[serde(default)]
    pub reason: String,
}

impl CaseResult {
    /// `case` was put to the backend and held.
    pub fn passed(case: &Case) -> Self {
        Self { name: case.name.into(), group: case.group, ok: true, skipped_because: None, reason: String::new() }
    }

    /// `case` was refuted, or whoever ran it did not live to tell.
    pub fn failed(case: &Case, reason: impl Into<String>) -> Self {
        Self { ok: false, reason: reason.into(), ..Self::passed(case) }
    }

    /// `case` could not be put to the backend.
    pub fn not_asked(case: &Case, because: impl Into<String>) -> Self {
        Self { skipped_because: Some(because.into()), ..Self::passed(case) }
    }
}

/// The outcome of a run. `passed + failed` is the number of cases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Cases in which nothing wrong was found.
    pub passed: u64,
    /// Cases in which something was.
    pub failed: u64,
    /// Those of the passed ones that could not be put to this backend.
    pub not_asked: u64,
    /// In the order of the table.
    pub cases: Vec<CaseResult>,
}

impl Report {
    /// Adds up what single runs, perhaps in processes of their own, have found.
    pub fn of(cases: Vec<CaseResult>) -> Self {
        let count = |wanted: &dyn Fn(&CaseResult) -> bool| cases.iter().filter(|case| wanted(case)).count() as u64;
        Self {
            passed: count(&|case| case.ok),
            failed: count(&|case| !case.ok),
            not_asked: count(&|case| case.skipped_because.is_some()),
            cases,
        }
    }

    /// Whether no case failed and there was one at all.
    pub fn is_ok(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| !case.ok)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.cases {
            let CaseResult { name, group, ok, skipped_because, reason } = case;
            match (ok, skipped_because) {
                (false, _) => writeln!(f, "FAILED {group}: {name}\n       {reason}")?,
                (true, None) => writeln!(f, "ok     {group}: {name}")?,
                (true, Some(because)) => writeln!(f, "-      {group}: {name}\n       {because}")?,
            }
        }
        write!(f, "{} passed ({} of them not asked), {} failed", self.passed, self.not_asked, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let case = &crate::cases()[0];
        Report::of(vec![
            CaseResult::passed(case),
            CaseResult::failed(case, "get returned nothing"),
            CaseResult::not_asked(case, "no locks"),
        ])
    }

    #[test]
    fn machines_get_integers_and_a_reason_per_case() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!((&json["passed"], &json["failed"], &json["not_asked"]), (&2.into(), &1.into(), &1.into()));
        assert_eq!(json["cases"][1]["ok"], false);
        assert_eq!(json["cases"][1]["reason"], "get returned nothing");
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report());
    }

    #[test]
    fn people_see_what_failed_and_what_was_not_asked() {
        let text = report().to_string();
        assert!(text.contains("FAILED contract: "), "{text}");
        assert!(text.contains("get returned nothing"), "{text}");
        assert!(text.ends_with("2 passed (1 of them not asked), 1 failed"), "{text}");
    }

    #[test]
    fn a_run_of_no_cases_proves_nothing() {
        assert!(!Report::of(Vec::new()).is_ok());
    }
}
