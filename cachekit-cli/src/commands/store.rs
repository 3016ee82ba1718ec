//! All entries at once: keys, clear, stats, health.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, IsTerminal};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use cachekit::blocking::BlockingCache;
use cachekit::{BreakerState, Cache, GuardHealth};
use cachekit_plugin::{Backend, Enumerates, KeyBytes, Limits};
use serde_json::{Value as Json, json};

use crate::exit::{Class, Failure, Outcome};
use crate::glob::Glob;
use crate::output::{Output, as_text, escaped, hex};
use crate::session::Session;

/// Calls `visit` with each page of keys and returns how many entries were not this cache's.
fn each_page(
    cache: &BlockingCache,
    mut visit: impl FnMut(Vec<Vec<u8>>) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut cursor: Option<Bytes> = None;
    let mut foreign = 0;
    loop {
        let page = cache.keys(cursor.as_ref())?;
        foreign += page.foreign;
        visit(page.keys)?;
        if page.next.is_none() {
            return Ok(foreign);
        }
        // A store whose cursor stands still would keep us here for ever.
        if page.next == cursor {
            return Err(Failure::Usage("the store's listing does not advance; the backend is at fault".into()));
        }
        cursor = page.next;
    }
}

/// A page at a time, so that a store of any size can be listed.
pub(super) fn keys(pattern: Option<&OsStr>, null: bool, session: &Session) -> Result<Outcome, Failure> {
    let refuse = |reason| Failure::Usage(format!("the pattern: {reason}"));
    let glob = pattern.map(|pattern| Glob::parse(pattern.as_bytes()).map_err(refuse)).transpose()?;
    let output = session.output;
    if null && output.is_json() {
        return Err(Failure::Usage("--null and --json exclude each other".into()));
    }
    session.with_cache(|cache| {
        let namespace = cache.namespace_name().to_owned();
        let (mut listed, mut binary) = (Vec::new(), Vec::new());
        let foreign = each_page(&cache.blocking(), |keys| {
            let mut lines = Vec::new();
            for key in keys.into_iter().filter(|key| glob.as_ref().is_none_or(|glob| glob.matches(key))) {
                if output.is_json() {
                    match String::from_utf8(key) {
                        Ok(key) => listed.push(key),
                        Err(key) => binary.push(hex(key.as_bytes())),
                    }
                } else if null {
                    lines.extend_from_slice(&key);
                    lines.push(0);
                } else {
                    lines.extend_from_slice(escaped(&key).as_bytes());
                    lines.push(b'\n');
                }
            }
            output.bytes(&lines)
        })?;
        if output.is_json() {
            // Two lists, because JSON text cannot hold every key.
            output.document(
                &json!({ "namespace": namespace, "keys": listed, "binary_keys_hex": binary, "foreign": foreign }),
            )?;
        } else if foreign > 0 {
            output.note(&format!("{foreign} entries of the store are not of namespace {namespace}, or unreadable"));
        }
        Ok(Outcome::Done)
    })
}

/// A mistyped namespace or URL must not cost a cache, so somebody has to say yes: a person, or a script by --yes.
pub(super) fn clear(yes: bool, session: &Session) -> Result<Outcome, Failure> {
    let output = session.output;
    session.with_cache(|cache| {
        let namespace = cache.namespace_name();
        if !yes {
            if !std::io::stdin().is_terminal() {
                let reason = "clear removes every entry of the namespace and there is no terminal to ask; say --yes";
                return Err(Failure::Usage(reason.into()));
            }
            output.note(&format!("Remove every entry of namespace {namespace}? [y/N]"));
            let mut answer = String::new();
            std::io::stdin().lock().read_line(&mut answer).map_err(Failure::io("the answer cannot be read"))?;
            if !matches!(answer.trim(), "y" | "Y" | "yes") {
                output.only_json(|| json!({ "namespace": namespace, "cleared": null }))?;
                return Ok(Outcome::No);
            }
        }
        let spinner = output.spinner("clearing");
        let cleared = cache.blocking().clear();
        spinner.finish_and_clear();
        let cleared = cleared?;
        output.only_json(|| json!({ "namespace": namespace, "cleared": cleared }))?;
        if !output.is_json() {
            output.note(&match cache.clears_by_epoch() {
                true => "every entry is out of force".to_owned(),
                false => format!("{cleared} entries removed"),
            });
        }
        Ok(Outcome::Done)
    })
}

/// Makes what carries one of the tags a miss, for everybody who shares the store.
pub(super) fn clear_tags(tags: &[OsString], session: &Session) -> Result<Outcome, Failure> {
    let tags: Vec<&[u8]> = tags.iter().map(|tag| tag.as_bytes()).collect();
    session.with_cache(|cache| {
        cache.blocking().invalidate_tags(&tags)?;
        let names: Vec<_> = tags.iter().map(|tag| as_text(tag)).collect();
        session.output.only_json(|| json!({ "namespace": cache.namespace_name(), "invalidated": names }))?;
        if !session.output.is_json() {
            session.output.note(&format!("{} tags invalidated", names.len()));
        }
        Ok(Outcome::Done)
    })
}

/// What the store is and holds. Hits and misses are not among it: a process counts its own, and this one began just now.
pub(super) fn stats(session: &Session) -> Result<Outcome, Failure> {
    let output = session.output;
    session.with_cache(|cache| {
        let blocking = cache.blocking();
        let Some(tier) = cache.tier() else { return Ok(Outcome::No) };
        let whole = blocking.health();
        let health = whole.tier.transpose()?.unwrap_or_default();
        let limits = *tier.limits();
        let lists = tier.backend().scan().is_some() && limits.enumerates != Enumerates::No;
        let mut counted = None;
        if lists {
            let spinner = output.spinner("counting entries");
            let mut entries = 0;
            let scanned = each_page(&blocking, |keys| {
                entries += keys.len() as u64;
                spinner.set_message(format!("counting entries: {entries}"));
                Ok(())
            });
            spinner.finish_and_clear();
            counted = Some((entries, scanned?));
        }
        let document = json!({
            "namespace": cache.namespace_name(),
            "entries": counted.map(|(entries, _)| entries),
            "foreign": counted.map(|(_, foreign)| foreign),
            "backend": { "type": health.backend_type, "latency_ms": health.latency_ms, "details": health.details },
            "limits": limits_document(&limits),
            "powers": powers(&**tier.backend()),
            "guards": guards(whole.breaker, &whole.guards),
        });
        if output.is_json() {
            output.document(&document)?;
        } else {
            output.bytes(table(&document).as_bytes())?;
        }
        Ok(Outcome::Done)
    })
}

/// What stands before the store, and what it is doing; `null` for what does not stand there.
fn guards(breaker: Option<BreakerState>, guards: &GuardHealth) -> Json {
    let of = |(now, most): (u32, u32)| json!({ "now": now, "most": most });
    json!({
        "breaker": breaker.map(BreakerState::as_str),
        "in_flight": guards.in_flight.map(of),
        "queued": guards.queued.map(of),
        "adaptive_timeout_ms": guards.adaptive_timeout.map(|limit| limit.as_millis() as u64),
    })
}

fn limits_document(limits: &Limits) -> Json {
    json!({
        "max_key": limits.max_key,
        "key_bytes": match limits.key_bytes { KeyBytes::Any => "any", KeyBytes::Printable => "printable" },
        "max_value": limits.max_value,
        "ttl_step_ms": limits.ttl_step_ms,
        "ttl_max_ms": (limits.ttl_max_ms != u64::MAX).then_some(limits.ttl_max_ms),
        "enumerates": match limits.enumerates {
            Enumerates::Keys => "keys",
            Enumerates::Ids => "ids",
            Enumerates::No => "no",
        },
    })
}

/// Found by asking, like everywhere.
fn powers(backend: &dyn Backend) -> Vec<&'static str> {
    let offered = [
        ("batch", backend.batch().is_some()),
        ("ttl", backend.ttl().is_some()),
        ("lock", backend.locks().is_some()),
        ("cas", backend.cas().is_some()),
        ("scan", backend.scan().is_some()),
        ("clear", backend.clear().is_some()),
    ];
    offered.into_iter().filter(|(_, offered)| *offered).map(|(name, _)| name).collect()
}

/// A document as lines of `name.inner = value`, for people.
pub(super) fn table(document: &Json) -> String {
    fn walk(prefix: &str, value: &Json, lines: &mut String) {
        match value {
            Json::Object(fields) => {
                for (name, value) in fields {
                    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&path, value, lines);
                }
            }
            Json::String(text) => lines.push_str(&format!("{prefix} = {}\n", escaped(text.as_bytes()))),
            Json::Null => lines.push_str(&format!("{prefix} = -\n")),
            other => lines.push_str(&format!("{prefix} = {other}\n")),
        }
    }
    let mut lines = String::new();
    walk("", document, &mut lines);
    lines
}

/// A store that fails is not healthy, whatever the kind of its error: exit code 3.
pub(super) fn health(session: &Session) -> Result<Outcome, Failure> {
    session.with_cache(|cache| ask(cache, session.output))
}

/// Asks for a sign of life and shows it.
pub(super) fn ask(cache: &Cache, output: Output) -> Result<Outcome, Failure> {
    let whole = cache.blocking().health();
    match whole.tier {
        Some(Ok(health)) => {
            let state = if health.healthy { "healthy" } else { "not healthy" };
            let document = || {
                let mut document = json!(health);
                document["guards"] = guards(whole.breaker, &whole.guards);
                document
            };
            output.either(document, &format!("{}: {state}, {:.3} ms", health.backend_type, health.latency_ms))?;
            Ok(if health.healthy { Outcome::Done } else { Outcome::Bad(Class::Unavailable) })
        }
        Some(Err(error)) => {
            output.failure(&Failure::Backend(error));
            Ok(Outcome::Bad(Class::Unavailable))
        }
        // `session::open` gives no cache without a store.
        None => Ok(Outcome::No),
    }
}
