//! What a bench found: a table for people, one JSON document for programs, and which goals were met.

use std::fmt;

use serde::Serialize;

use crate::machine;
use crate::rounds::Timing;

/// One figure, with its best round where there were rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// Whose it is.
    pub name: String,
    /// The median.
    pub value: f64,
    /// The best round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<f64>,
}

impl Figure {
    /// A figure that was not taken in rounds.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value, best: None }
    }
}

impl From<&Timing> for Figure {
    fn from(timing: &Timing) -> Self {
        Self { name: timing.name.clone(), value: timing.median_ns, best: Some(timing.min_ns) }
    }
}

/// What the project set itself.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Our figure divided by the peer's.
    RatioAtMost(f64),
    /// Our figure divided by the peer's.
    RatioAtLeast(f64),
    /// Our figure alone.
    AtMost(f64),
    /// Our figure, and by how much it may be above the peer's.
    AtMostMore(f64),
    /// Our figure, and by how much it may be below the peer's.
    AtLeastLess(f64),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtMost(bound) => write!(f, "≤ {bound:.2}×"),
            Self::RatioAtLeast(bound) => write!(f, "≥ {bound:.2}×"),
            Self::AtMost(bound) => write!(f, "≤ {bound:.0}"),
            Self::AtMostMore(bound) => write!(f, "≤ peer + {bound:.0}"),
            Self::AtLeastLess(bound) => write!(f, "≥ peer − {bound:.0}"),
        }
    }
}

/// Ours beside a peer's.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What is compared.
    pub case: String,
    /// Of both figures.
    pub unit: &'static str,
    /// Our figure.
    pub ours: Figure,
    /// The peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Figure>,
    /// Ours divided by the peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// What was aimed at; without it the row only informs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// Whether the goal was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
}

impl Row {
    /// A figure beside a peer's.
    pub fn beside(case: impl Into<String>, unit: &'static str, ours: Figure, peer: Figure, goal: Option<Goal>) -> Self {
        let ratio = ours.value / peer.value;
        let met = goal.map(|goal| match goal {
            Goal::RatioAtMost(bound) => ratio <= bound,
            Goal::RatioAtLeast(bound) => ratio >= bound,
            Goal::AtMost(bound) => ours.value <= bound,
            Goal::AtMostMore(bound) => ours.value <= peer.value + bound,
            Goal::AtLeastLess(bound) => ours.value >= peer.value - bound,
        });
        Self { case: case.into(), unit, ours, peer: Some(peer), ratio: Some(ratio), goal, met }
    }

    /// A figure by itself.
    pub fn alone(case: impl Into<String>, unit: &'static str, ours: Figure, at_most: Option<f64>) -> Self {
        let met = at_most.map(|bound| ours.value <= bound);
        Self { case: case.into(), unit, ours, peer: None, ratio: None, goal: at_most.map(Goal::AtMost), met }
    }
}

/// All of a bench.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its name.
    pub bench: &'static str,
    /// Where it ran.
    pub machine: String,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Report {
    /// Begins a report; the load of the machine is read here.
    pub fn begin(bench: &'static str) -> Self {
        Self { bench, machine: machine::line(), notes: Vec::new(), rows: Vec::new() }
    }

    /// How many goals were missed.
    pub fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.met == Some(false)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.bench, self.machine)?;
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        writeln!(f, "figures: median (best round)\n")?;
        let cells: Vec<[String; 7]> = self.rows.iter().map(cells).collect();
        let head = ["case", "unit", "ours", "peer", "ratio", "goal", ""].map(str::to_owned);
        let width = |column: usize| {
            let all = std::iter::once(&head).chain(&cells);
            all.map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; 7] = std::array::from_fn(width);
        for row in std::iter::once(&head).chain(&cells) {
            let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        let goals = self.rows.iter().filter(|row| row.met.is_some()).count();
        writeln!(f, "\n{} of {goals} goals met", goals - self.missed())
    }
}

fn cells(row: &Row) -> [String; 7] {
    [
        row.case.clone(),
        row.unit.to_owned(),
        figure(&row.ours),
        row.peer.as_ref().map(figure).unwrap_or_default(),
        row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
        row.goal.map(|goal| goal.to_string()).unwrap_or_default(),
        match row.met {
            Some(true) => "met".into(),
            Some(false) => "MISSED".into(),
            None => String::new(),
        },
    ]
}

fn figure(figure: &Figure) -> String {
    let best = figure.best.map(|best| format!(" ({})", short(best))).unwrap_or_default();
    format!("{} {}{best}", figure.name, short(figure.value))
}

/// Four digits that mean something.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        1000.0.. => 0,
        100.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}
