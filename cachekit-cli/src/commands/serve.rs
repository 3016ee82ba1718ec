//! The cachekit.io HTTP API over the store of the configuration, until a signal ends it.

use std::io;
use std::path::Path;
use std::time::Duration;

use cachekit::config::EngineServices;
use cachekit_serve::{Bounds, Builder, KeyRule, Server};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::serve::{Keys, ServeArgs};
use crate::exit::{Failure, Outcome};
use crate::output::Output;
use crate::session::Session;

/// Largest certificate or key file: a chain has a few kilobytes.
const MAX_PEM: u64 = 1 << 20;

pub(super) fn serve(args: &ServeArgs, session: &Session) -> Result<Outcome, Failure> {
    // Worker threads as many as processors: they wait for sockets and for the store, never for a disk.
    let runtime = Runtime::new().map_err(Failure::io("no runtime can be started"))?;
    session.with_cache(|cache| {
        let Some(tier) = cache.tier() else { return Err(Failure::Usage("there is no store".into())) };
        let builder = choose(Server::builder(tier.backend().clone()), args, session.output)?;
        runtime.block_on(run(builder, session.output))?;
        Ok(Outcome::Done)
    })
}

async fn run(builder: Builder, output: Output) -> Result<(), Failure> {
    // Before anybody is told the address: a signal must find its handler.
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::io("signals cannot be handled"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::io("signals cannot be handled"))?;
    let server = builder.start().await?;
    // One line in either form, so that whoever started this can read up to its end and go on.
    match output.is_json() {
        true => output.line(&json!({ "url": server.url(), "address": server.addr().to_string() }).to_string())?,
        false => output.line(&server.url())?,
    }
    let mut ended = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    ended().await;
    output.note("ending: waiting for what is in flight");
    let in_order = tokio::select! {
        in_order = server.shutdown() => in_order,
        // Somebody who signals twice does not want to wait.
        () = ended() => false,
    };
    if !in_order {
        output.warn("not everything in flight was finished");
    }
    Ok(())
}

fn choose(builder: Builder, args: &ServeArgs, output: Output) -> Result<Builder, Failure> {
    let mut builder = builder.bind(args.listen).bounds(bounds(args)).key_rule(match args.keys {
        Keys::CachekitIo => KeyRule::CachekitIo,
        Keys::Any => KeyRule::Any,
    });
    for given in &args.api_key {
        let Some((tenant, key)) = given.split_once('=') else {
            // What was given may be a key, so it is not repeated.
            return Err(Failure::Usage("--api-key takes TENANT=env:NAME, TENANT=file:/path or TENANT=KEY".into()));
        };
        builder = builder.api_key(tenant, secret(key, &format!("the API key of {tenant:?}"), output)?);
    }
    if let Some(key) = &args.metrics_key {
        builder = builder.metrics_key(secret(key, "the metrics key", output)?);
    }
    if let Some(life) = args.default_ttl {
        builder = builder.default_ttl(whole_seconds(life));
    }
    match (&args.tls_cert, &args.tls_key) {
        (Some(certificates), Some(key)) => Ok(builder.tls(pem(certificates)?, pem(key)?)),
        _ => Ok(builder.plain_http()),
    }
}

/// Rounded up: an entry may live longer than asked by less than a second, never shorter.
fn whole_seconds(life: Duration) -> u64 {
    life.as_secs().saturating_add(u64::from(life.subsec_nanos() > 0))
}

fn bounds(args: &ServeArgs) -> Bounds {
    let usual = Bounds::default();
    let max_value = args.max_value.unwrap_or(usual.max_value);
    let max_in_flight = args.max_in_flight.unwrap_or(usual.max_in_flight);
    Bounds {
        max_connections: args.max_connections.unwrap_or(usual.max_connections),
        max_in_flight,
        tenant_in_flight: args.tenant_in_flight.unwrap_or(max_in_flight),
        max_value,
        // Whoever asks for larger values wants one of them to fit.
        max_buffered: args.max_buffered.unwrap_or(usual.max_buffered.max(max_value.saturating_mul(2))),
        max_fetches: args.max_fetches.unwrap_or(usual.max_fetches),
        deadline: args.deadline.unwrap_or(usual.deadline),
        grace: args.grace.unwrap_or(usual.grace),
        ..usual
    }
}

/// A key, by reference or as it is. The alphabet of keys has no colon, so the two never meet.
fn secret(given: &str, what: &str, output: Output) -> Result<String, Failure> {
    if given.contains(':') {
        return Ok(EngineServices::shared().secret(given)?);
    }
    output.warn(&format!("{what} stands on the command line, where everybody on this machine can read it"));
    Ok(given.to_owned())
}

fn pem(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = || Failure::io(format!("{path:?} cannot be read"));
    let file = std::fs::File::open(path).map_err(cannot())?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MAX_PEM), &mut bytes).map_err(cannot())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_life_is_rounded_up_to_seconds() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(2000)), 2);
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }
}
