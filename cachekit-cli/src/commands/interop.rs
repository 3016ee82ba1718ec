//! What other languages of the family share: the keys of their calls, and the values under them.
//!
//! Arguments and values are JSON, plain or typed. What is printed is always typed, so that it can be given back: a float
//! that is whole stays a float, and bytes stay bytes.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use cachekit::blocking::wait;
use cachekit::interop::{Argument, DefaultKey, InteropError, InteropValue, Keyring, interop_key, typed_json};
use cachekit::{Cache, Config, Interop};
use serde_json::{Value as Json, json};

use super::value_of;
use crate::cli::interop::{CallArgs, DefaultKeyArgs, InteropCommand, SecureArgs};
use crate::exit::{Failure, Outcome};
use crate::session::{self, Session};

/// Longest JSON text of a call's arguments.
const MAX_ARGUMENTS_BYTES: u64 = 16 << 20;

pub(super) fn interop(command: &InteropCommand, session: &Session) -> Result<Outcome, Failure> {
    match command {
        InteropCommand::Key(call) => key(call, session),
        InteropCommand::Get { call, secure } => get(call, secure, session),
        InteropCommand::Set { call, value, ttl, secure } => set(call, value, *ttl, secure, session),
        InteropCommand::Del(call) => del(call, session),
        InteropCommand::DefaultKey(args) => default_key(args, session),
    }
}

fn key(call: &CallArgs, session: &Session) -> Result<Outcome, Failure> {
    let key = interop_key(&call.shared, &call.operation, &arguments(&call.arguments)?).map_err(refused)?;
    session.output.either(|| json!({ "key": key }), &key)?;
    Ok(Outcome::Done)
}

fn get(call: &CallArgs, secure: &SecureArgs, session: &Session) -> Result<Outcome, Failure> {
    let arguments = arguments(&call.arguments)?;
    let (key, value) = with_shared(call, Some(secure), session, |shared| {
        let key = shared.key(&call.operation, &arguments)?;
        Ok((key, wait(shared.get::<InteropValue>(&call.operation, &arguments))?))
    })?;
    let output = session.output;
    let Some(value) = value else {
        output.only_json(|| json!({ "key": key, "hit": false, "value": null }))?;
        return Ok(Outcome::No);
    };
    let value = typed_json::from_value(&value);
    output.either(|| json!({ "key": key, "hit": true, "value": value }), &value.to_string())?;
    Ok(Outcome::Done)
}

fn set(
    call: &CallArgs,
    value: &OsStr,
    ttl: Option<Duration>,
    secure: &SecureArgs,
    session: &Session,
) -> Result<Outcome, Failure> {
    let arguments = arguments(&call.arguments)?;
    // Read before the store is opened: input may take its time.
    let value =
        typed_json::to_value(&json_of("the value", value, session.config()?.max_value.value)?).map_err(refused)?;
    let key = with_shared(call, Some(secure), session, |shared| {
        wait(shared.set(&call.operation, &arguments, &value, ttl))?;
        Ok(shared.key(&call.operation, &arguments)?)
    })?;
    session.output.only_json(|| json!({ "key": key, "stored": true }))?;
    Ok(Outcome::Done)
}

fn del(call: &CallArgs, session: &Session) -> Result<Outcome, Failure> {
    let arguments = arguments(&call.arguments)?;
    let (key, deleted) = with_shared(call, None, session, |shared| {
        Ok((shared.key(&call.operation, &arguments)?, wait(shared.delete(&call.operation, &arguments))?))
    })?;
    session.output.only_json(|| json!({ "key": key, "deleted": deleted }))?;
    Ok(Outcome::hit(deleted))
}

fn default_key(args: &DefaultKeyArgs, session: &Session) -> Result<Outcome, Failure> {
    let named = json_of("the named arguments", &args.named, MAX_ARGUMENTS_BYTES)?;
    let key = DefaultKey {
        module: &args.module,
        qualname: &args.qualname,
        namespace: session.namespace(),
        integrity: !args.no_integrity,
        serializer: &args.serializer,
        args: &arguments(&args.arguments)?,
        kwargs: &typed_json::to_named_arguments(&named).map_err(refused)?,
    };
    let key = key.key().map_err(refused)?;
    session.output.either(|| json!({ "key": key }), &key)?;
    Ok(Outcome::Done)
}

/// Opens the cache and in it the namespace that is shared, sealed if that is asked for.
fn with_shared<T>(
    call: &CallArgs,
    secure: Option<&SecureArgs>,
    session: &Session,
    work: impl FnOnce(&Interop) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let config = session.config()?;
    let sealed = match secure {
        Some(args) if args.secure => Some((needed(keyring(&config)?)?, tenant(args.tenant.as_deref(), &config))),
        _ => None,
    };
    let cache: Cache = session::open(config)?;
    let mut shared = cache.interop(&call.shared)?;
    if let Some((keyring, tenant)) = sealed {
        shared = shared.secure(keyring, &tenant)?;
    }
    let done = work(&shared)?;
    cache.blocking().close()?;
    Ok(done)
}

/// The keys of the configuration, if it has any.
pub(super) fn keyring(config: &Config) -> Result<Option<Arc<Keyring>>, Failure> {
    Ok(config.keyring()?.map(Arc::new))
}

fn needed(keyring: Option<Arc<Keyring>>) -> Result<Arc<Keyring>, Failure> {
    let missing = "--secure needs a master key: set CACHEKIT_MASTER_KEY to 64 or more hex digits";
    keyring.ok_or_else(|| Failure::Usage(missing.into()))
}

/// The tenant that was named, or that of the configuration.
pub(super) fn tenant(given: Option<&str>, config: &Config) -> String {
    given.unwrap_or_else(|| config.tenant()).to_owned()
}

fn arguments(text: &OsStr) -> Result<Vec<Argument>, Failure> {
    typed_json::to_arguments(&json_of("the arguments", text, MAX_ARGUMENTS_BYTES)?).map_err(refused)
}

fn json_of(what: &str, text: &OsStr, max: u64) -> Result<Json, Failure> {
    let text = value_of(text, max)?;
    // The parser quotes nothing of what it read, only where it stopped.
    serde_json::from_slice(&text).map_err(|error| Failure::Usage(format!("{what}: no JSON: {error}")))
}

fn refused(error: InteropError) -> Failure {
    cachekit::Error::from(error).into()
}
