//! Entries from one store to another, with the lives they have left.
//!
//! Nothing is lost silently: each entry that was listed is copied, left out for a reason that is counted, or failed. Where
//! something failed the resume file keeps its place before it, so that a repetition tries again. Writing an entry twice
//! does no harm, so a copy that was cut off can always be repeated.

mod ends;
mod entry;
mod place;
mod tally;

use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_plugin::{Enumerates, Page};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::ends::{Patience, Source, Target};
use self::entry::{Filter, Write};
use self::place::Place;
use self::tally::{Reason, Tally};
use crate::cli::transfer::CopyArgs;
use crate::exit::{Class, Failure, Outcome};
use crate::session::Session;

pub(super) fn copy(args: &CopyArgs, session: &Session) -> Result<Outcome, Failure> {
    if args.from == args.to {
        return Err(Failure::Usage("source and target are the same".into()));
    }
    let filter = Filter::new(session.namespace(), args.prefix.as_deref())?;
    let patience = Patience::new(args.deadline);
    let source = Source::new(session.store(&args.from)?, patience)?;
    let target = Target::new(session.store(&args.to)?, patience)?;
    let runtime = Runtime::new().map_err(Failure::io("no runtime can be started"))?;
    let run_id = match args.resume {
        Some(_) => runtime.block_on(source.run_id())?,
        None => String::new(),
    };
    let place = Place::open(args.resume.as_deref(), &[&args.from, &args.to, filter.prefix(), &run_id])?;
    let resumed = place.cursor().is_some();
    let mut run = Run { args, filter, source, target, place, tally: Tally::default(), session };
    let ended = runtime.block_on(run.all());
    let closed = runtime.block_on(async {
        run.source.close().await;
        run.target.close().await
    });
    // What kept it from going on, or the target from ending in order; what was done until then is counted all the same.
    let (complete, failure) = match (ended, closed) {
        (Ok(complete), Ok(())) => (complete, None),
        (Ok(_), Err(error)) => (false, Some(Failure::Backend(error))),
        (Err(failure), _) => (false, Some(failure)),
    };
    report(&run.tally, args, (complete, resumed), failure.as_ref(), session)?;
    // A dry run copied nothing, so the place of the copy that did is still where that one has to go on.
    if complete && run.tally.failed() == 0 && !args.dry_run {
        run.place.finish()?;
    }
    Ok(match failure {
        Some(failure) => Outcome::Bad(failure.class()),
        None if run.tally.failed() > 0 => Outcome::Bad(Class::Unavailable),
        None => Outcome::hit(complete && run.tally.left_out() == 0),
    })
}

struct Run<'a> {
    args: &'a CopyArgs,
    filter: Filter,
    source: Source,
    target: Target,
    place: Place,
    tally: Tally,
    session: &'a Session,
}

impl Run<'_> {
    /// Page after page; `false` if a signal ended it before the last one.
    async fn all(&mut self) -> Result<bool, Failure> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::io("signals cannot be handled"))?;
        let spinner = self.session.output.spinner("copying");
        let mut cursor = self.place.cursor();
        let mut circle = Circle::default();
        loop {
            let page = self.source.page(self.filter.prefix(), cursor.as_deref(), self.args.batch.into()).await?;
            let Page { items, next } = page;
            let interrupted = tokio::select! {
                done = self.items(&items) => { done?; false }
                _ = interrupt.recv() => true,
            };
            spinner.set_message(self.tally.line());
            if interrupted {
                spinner.finish_and_clear();
                self.session.output.warn("interrupted; what is counted was copied");
                return Ok(false);
            }
            // Once something failed the file keeps its place before it.
            if self.tally.failed() == 0 && !self.args.dry_run {
                self.place.keep(next.as_deref())?;
            }
            let Some(next) = next else { break };
            if circle.closed_by(&next) {
                return Err(Failure::Usage("the source's listing runs in circles; its backend is at fault".into()));
            }
            cursor = Some(next);
        }
        spinner.finish_and_clear();
        Ok(true)
    }

    async fn items(&mut self, items: &[Bytes]) -> Result<(), Failure> {
        let failed_before = self.tally.failed();
        let limits = *self.target.limits();
        let mut writes: Vec<Write> = Vec::new();
        for (item, read) in items.iter().zip(self.source.read(items).await) {
            self.tally.listed += 1;
            let stored = match read {
                Ok(Some(stored)) => stored,
                Ok(None) => {
                    self.tally.leave(Reason::Gone);
                    continue;
                }
                Err(error) => {
                    self.tally.fail(error);
                    continue;
                }
            };
            let by_key = self.source.enumerates() == Enumerates::Keys;
            match Write::plan(by_key.then_some(&item[..]), stored, self.source.limits(), &limits, &self.filter) {
                Ok(write) => writes.push(write),
                Err(Reason::Elsewhere) => self.tally.listed -= 1,
                Err(reason) => self.tally.leave(reason),
            }
        }
        let asked = Instant::now();
        let lives = self.source.lives(&writes, self.args.unknown_life).await;
        let mut ready = Vec::with_capacity(writes.len());
        for (mut write, life) in writes.into_iter().zip(lives) {
            match life {
                Ok(Ok(life)) if write.is_lease(life) => self.tally.leave(Reason::Lease),
                Ok(Ok(life)) => {
                    self.tally.shortened += u64::from(write.live(life, &limits));
                    ready.push(write);
                }
                Ok(Err(reason)) => self.tally.leave(reason),
                Err(error) => self.tally.fail(error),
            }
        }
        if self.args.dry_run {
            ready.iter().for_each(|write| self.tally.copy(write.stored.len()));
            return Ok(());
        }
        let ready = self.adopted(ready).await?;
        let answers = self.target.write(&ready).await;
        let mut written = Vec::with_capacity(ready.len());
        for (write, answer) in ready.into_iter().zip(answers) {
            match answer {
                Ok(()) => {
                    self.tally.copy(write.stored.len());
                    written.push(write);
                }
                Err(error) => self.tally.fail(error),
            }
        }
        if self.args.verify {
            self.verify(&written, asked).await;
        }
        // A store that takes nothing of a whole page is gone, and the pages after this one would fare no better.
        let failed = self.tally.failed() - failed_before;
        if failed > 0 && written.is_empty() && failed == items.len() as u64 {
            let last = self.tally.take_last_error();
            return last.map_or(Ok(()), |error| Err(error.into()));
        }
        Ok(())
    }

    /// What the target can have in force; the rest is counted.
    async fn adopted(&mut self, writes: Vec<Write>) -> Result<Vec<Write>, Failure> {
        let mut adopted = Vec::with_capacity(writes.len());
        for mut write in writes {
            match self.target.adopt(&mut write).await? {
                Ok(()) => adopted.push(write),
                Err(reason) => self.tally.leave(reason),
            }
        }
        Ok(adopted)
    }

    /// Reads back what was written. `asked` is when the lives were asked.
    async fn verify(&mut self, written: &[Write], asked: Instant) {
        let answers = self.target.read_back(written).await;
        let (since, step_ms) = (asked.elapsed(), self.target.limits().ttl_step_ms);
        for (write, found) in written.iter().zip(answers) {
            match found {
                Ok(Some(found)) if found == write.stored => self.tally.verified += 1,
                Ok(Some(_)) => self.tally.differ += 1,
                Ok(None) if write.may_have_ended(since, step_ms) => self.tally.vanished += 1,
                Ok(None) => self.tally.lost += 1,
                Err(error) => self.tally.fail(error),
            }
        }
    }
}

/// Sees a listing that runs in circles: a cursor kept from further and further back (Brent).
#[derive(Default)]
struct Circle {
    milestone: Option<Bytes>,
    pages: u64,
}

impl Circle {
    fn closed_by(&mut self, next: &Bytes) -> bool {
        let closed = self.milestone.as_ref() == Some(next);
        self.pages += 1;
        if self.pages.is_power_of_two() {
            self.milestone = Some(next.clone());
        }
        closed
    }
}

fn report(
    tally: &Tally,
    args: &CopyArgs,
    (complete, resumed): (bool, bool),
    failure: Option<&Failure>,
    session: &Session,
) -> Result<(), Failure> {
    let output = session.output;
    let lines = failure.map(Failure::lines).unwrap_or_default();
    if output.is_json() {
        let mut document = tally.document();
        if let Some(fields) = document.as_object_mut() {
            fields.insert("complete".into(), json!(complete));
            fields.insert("resumed".into(), json!(resumed));
            fields.insert("dry_run".into(), json!(args.dry_run));
            let error = failure.map(|failure| json!({ "kind": failure.kind(), "message": lines.join(": ") }));
            fields.insert("error".into(), json!(error));
        }
        output.document(&document)?;
    } else {
        let what = if args.dry_run { "would be copied" } else { "copied" };
        output.line(&tally.text(what, args.verify))?;
    }
    lines.iter().for_each(|line| output.note(&format!("error: {line}")));
    Ok(())
}

/// What one exchange may take, and how often it is tried.
const TRIES: u32 = 3;

/// The pause before the next try, unless the store names one.
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cachekit_conformance::Memory;
    use cachekit_plugin::Ttl;
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::output::Output;

    #[test]
    fn what_the_target_lacks_although_its_life_goes_on_has_failed() {
        let cli = Cli::try_parse_from(["cachekit", "copy", "file:///a", "file:///b", "--verify"]).unwrap();
        let Command::Copy(args) = cli.command else { panic!("it is copy") };
        let session = Session::new(cli.global, Output::new(false, 0));
        let patience = Patience::new(Duration::from_secs(600));
        let filter = Filter::new(None, None).unwrap();
        let source = Source::new(Arc::new(Memory::default()), patience).unwrap();
        let target = Target::new(Arc::new(Memory::default()), patience).unwrap();
        // The target said that it had taken them, and has none.
        let written: Vec<Write> = [Some(Ttl::Never), Ttl::from_ms(3_600_000), Ttl::from_ms(1)]
            .map(|life| {
                let value = Bytes::from_static(b"value");
                let mut write = Write::plan(Some(b"k"), value, source.limits(), target.limits(), &filter).unwrap();
                write.live(life.unwrap(), target.limits());
                write
            })
            .into();
        let place = Place::open(None, &[]).unwrap();
        let mut run = Run { args: &args, filter, source, target, place, tally: Tally::default(), session: &session };
        Runtime::new().unwrap().block_on(run.verify(&written, Instant::now()));
        // The last may have ended on the way.
        assert_eq!((run.tally.lost, run.tally.vanished, run.tally.failed()), (2, 1, 2));
        assert!(run.tally.text("copied", true).ends_with("0 same, 0 different, 1 ended, 2 lost"));
    }

    #[test]
    fn a_listing_that_runs_in_circles_is_seen() {
        let mut circle = Circle::default();
        let cursors =
            ["a", "b", "c", "d", "b", "c", "d", "b", "c", "d", "b"].map(|cursor| Bytes::from(cursor.to_owned()));
        assert!(cursors.iter().any(|cursor| circle.closed_by(cursor)));
        let mut straight = Circle::default();
        assert!(!(0..1000).any(|number| straight.closed_by(&Bytes::from(format!("{number}")))));
    }
}
