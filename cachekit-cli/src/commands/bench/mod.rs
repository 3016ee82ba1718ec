//! How fast a store is, from here, with so many callers: below the engine, so that nothing but the backend is measured.
//!
//! Each caller waits for its answer before it asks again (a closed loop), so a store that stalls is asked less while it
//! stalls: the percentiles are what these callers saw, not what arrivals at a fixed rate would have seen.

mod callers;
mod keys;
mod numbers;

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::callers::Callers;
use self::keys::Keys;
use self::numbers::Numbers;
use crate::cli::transfer::BenchArgs;
use crate::exit::{Class, Failure, Outcome};
use crate::session::Session;

pub(super) fn bench(args: &BenchArgs, session: &Session) -> Result<Outcome, Failure> {
    let runtime = Runtime::new().map_err(Failure::io("no runtime can be started"))?;
    session.with_cache(|cache| {
        let Some(tier) = cache.tier() else { return Err(Failure::Usage("there is no store".into())) };
        let keys = Keys::new(tier.backend().clone(), args)?;
        runtime.block_on(run(args, keys, session))
    })
}

async fn run(args: &BenchArgs, keys: Keys, session: &Session) -> Result<Outcome, Failure> {
    let output = session.output;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::io("signals cannot be handled"))?;
    let filling = output.spinner("writing the keys");
    // Whatever happens from here on, what was written is removed.
    let filled = tokio::select! {
        filled = keys.fill() => filled.map_err(Failure::from),
        _ = interrupt.recv() => Err(Failure::Usage("interrupted before anything was measured".into())),
    };
    filling.finish_and_clear();
    let measured = match filled {
        Err(error) => Err(error),
        Ok(()) => Ok(measure(args, &keys, session, &mut interrupt).await),
    };
    let left = keys.remove().await;
    if left > 0 {
        let hours = keys::LIFE.as_secs() / 3600;
        output.warn(&format!("{left} keys could not be removed; they end by themselves within {hours} hour"));
    }
    let numbers = measured?;
    output.either(|| numbers.document(args, left), &numbers.table())?;
    Ok(if numbers.wrong() > 0 {
        Outcome::Bad(Class::Refused)
    } else if numbers.errors() > 0 {
        Outcome::Bad(Class::Unavailable)
    } else {
        Outcome::Done
    })
}

async fn measure(
    args: &BenchArgs,
    keys: &Keys,
    session: &Session,
    interrupt: &mut tokio::signal::unix::Signal,
) -> Numbers {
    let callers = Callers::start(args, keys);
    let wait = async |time: Duration, interrupt: &mut tokio::signal::unix::Signal| {
        tokio::select! {
            () = tokio::time::sleep(time) => false,
            _ = interrupt.recv() => true,
        }
    };
    let spinner = session.output.spinner("warming up");
    let mut interrupted = wait(args.warm_up, interrupt).await;
    spinner.set_message("measuring");
    callers.measure();
    if !interrupted {
        interrupted = wait(args.duration, interrupt).await;
    }
    let numbers = callers.stop().await;
    spinner.finish_and_clear();
    if interrupted {
        session.output.warn("interrupted: the numbers are of the time until then");
    }
    numbers
}
