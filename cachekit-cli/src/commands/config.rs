//! What the configuration says, and whether it works.

use cachekit::Environment;
use serde_json::{Value as Json, json};

use super::store::ask;
use crate::cli::ConfigCommand;
use crate::exit::{Failure, Outcome};
use crate::output::Output;
use crate::session::{self, Session};

pub(super) fn config(command: &ConfigCommand, session: &Session) -> Result<Outcome, Failure> {
    let config = session.config()?;
    match command {
        ConfigCommand::Show => show(&config, session.output),
        // Health is asked of the store as every command of this program would use it.
        ConfigCommand::Check => {
            let url = redis_url(&config);
            let cache = session::open(config)?;
            let outcome = ask(&cache, session.output)?;
            if let (Outcome::Bad(_), Some(url)) = (outcome, url) {
                session.output.note(&format!(
                    "note: whether the server answers at all, redis-cli tells: redis-cli -u {url} ping"
                ));
            }
            cache.blocking().close()?;
            Ok(outcome)
        }
    }
}

/// Where Redis is looked for, without a password.
fn redis_url(config: &cachekit::Config) -> Option<String> {
    let shown = config.show();
    let url = shown.get("tier.options.url")?.value.as_str()?.to_owned();
    (url.starts_with("redis://") || url.starts_with("rediss://")).then_some(url)
}

/// The settings as an application would get them, not as this program bends them for itself.
fn show(config: &cachekit::Config, output: Output) -> Result<Outcome, Failure> {
    let settings = config.show();
    // What this process sees, by name alone: a variable that a shell has set and not exported is not among them.
    let environment = Environment::of_process();
    let seen = environment.names();
    if output.is_json() {
        let warnings: Vec<&str> = config.warnings.iter().map(|warning| &*warning.0).collect();
        output.document(&json!({
            "settings": settings, "warnings": warnings, "notes": config.notes, "variables": seen.collect::<Vec<_>>(),
        }))?;
        return Ok(Outcome::Done);
    }
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let name_width = settings.keys().map(|name| name.len()).max().unwrap_or(0);
    let lines = settings
        .iter()
        .map(|(name, shown)| format!("{name:name_width$} = {}  ({})\n", text(&shown.value), shown.source))
        .collect::<String>();
    output.bytes(lines.as_bytes())?;
    for note in &config.notes {
        output.note(&format!("note: {note}"));
    }
    let seen: Vec<_> = seen.collect();
    output.note(&match seen.as_slice() {
        [] => "note: the environment of this process has no variable of cachekit".to_owned(),
        names => format!("note: the environment of this process has {}", names.join(", ")),
    });
    Ok(Outcome::Done)
}
