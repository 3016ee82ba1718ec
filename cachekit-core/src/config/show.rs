//! A configuration as people and programs see it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::{Config, LibraryChoice, Setting, Source, TierChoice};
use crate::builder::NamespaceEpochs;
use crate::codec::{Compression, Serializer};

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// The value, secrets left out.
    pub value: Json,
    /// Where it came from.
    pub source: String,
}

const HIDDEN: &str = "***";

pub(super) fn show(config: &Config) -> BTreeMap<String, Shown> {
    fn shown<T>(setting: &Setting<T>, value: impl Fn(&T) -> Json) -> Shown {
        Shown { value: value(&setting.value), source: setting.source.to_string() }
    }
    let duration = |duration: &std::time::Duration| json!(humantime::format_duration(*duration).to_string());
    let settings = BTreeMap::from([
        ("preset", shown(&config.preset, |preset| preset.map_or(json!("none"), |name| json!(name)))),
        ("namespace", shown(&config.namespace, |name| json!(name))),
        ("ttl", shown(&config.ttl, |ttl| ttl.as_ref().map_or(json!("none"), duration))),
        (
            "deadline",
            shown(&config.deadline, |deadline| deadline.as_ref().map_or(json!("as the store suggests"), duration)),
        ),
        ("fill_locks.enabled", shown(&config.fill_locks_enabled, |enabled| json!(enabled))),
        ("fill_locks.hold", shown(&config.fill_locks_hold, duration)),
        ("fill_locks.patience", shown(&config.fill_locks_patience, duration)),
        ("fill_locks.fence", shown(&config.fill_locks_fence, |fence| json!(fence))),
        ("strict", shown(&config.strict, |strict| json!(strict))),
        (
            "serializer",
            shown(&config.serializer, |serializer| match serializer {
                Serializer::MessagePack => json!("msgpack"),
                Serializer::Json => json!("json"),
                Serializer::Raw => json!("raw"),
            }),
        ),
        (
            "compression",
            shown(&config.compression, |compression| match compression {
                Compression::None => json!("none"),
                Compression::Zstd { level, threshold } => {
                    json!({"algorithm": "zstd", "level": level, "threshold": threshold})
                }
                Compression::Lz4 { threshold } => json!({"algorithm": "lz4", "threshold": threshold}),
            }),
        ),
        (
            "compression.dictionary",
            shown(&config.dictionary, |file| match file {
                Some(file) => json!({"path": file.path, "id": file.dictionary.id().to_string()}),
                None => json!("none"),
            }),
        ),
        ("max_value", shown(&config.max_value, |bytes| json!(bytes))),
        ("l1.enabled", shown(&config.l1_enabled, |enabled| json!(enabled))),
        ("l1.max_bytes", shown(&config.l1_max_bytes, |bytes| json!(bytes))),
        ("l1.max_entries", shown(&config.l1_max_entries, |entries| json!(entries))),
        ("l1.ttl_cap", shown(&config.l1_ttl_cap, duration)),
        ("l1.coherence", shown(&config.l1_coherence, |coherence| json!(coherence))),
        (
            "invalidation.namespace_epochs",
            shown(&config.namespace_epochs, |when| match when {
                NamespaceEpochs::Auto => json!("auto"),
                NamespaceEpochs::On => json!("on"),
                NamespaceEpochs::Off => json!("off"),
            }),
        ),
        ("invalidation.epoch_ttl", shown(&config.epoch_ttl, duration)),
        ("l1.hot_keys", shown(&config.l1_hot_keys, |keys| json!(keys))),
        ("l1.snapshot", shown(&config.l1_snapshot, |path| path.as_ref().map_or(json!("none"), |path| json!(path)))),
        ("encryption.enabled", shown(&config.encryption_enabled, |enabled| json!(enabled))),
        ("encryption.plaintext_in_l1", shown(&config.encryption_plaintext_in_l1, |plaintext| json!(plaintext))),
        ("encryption.hash_keys", shown(&config.encryption_hash_keys, |hash| json!(hash))),
        ("encryption.reseal", shown(&config.encryption_reseal, |reseal| json!(reseal))),
        // That there is a key, and nothing more.
        (
            "encryption.name_key",
            shown(&config.encryption_name_key, |key| json!(if key.is_some() { HIDDEN } else { "none" })),
        ),
        ("encryption.master_key", shown(&config.master_key, |key| json!(if key.is_some() { HIDDEN } else { "none" }))),
        (
            "encryption.previous_master_keys",
            shown(&config.previous_master_keys, |keys| json!(vec![HIDDEN; keys.len()])),
        ),
        ("encryption.fail_closed", shown(&config.encryption_fail_closed, |closed| json!(closed))),
        ("encryption.deployment_uuid", shown(&config.deployment_uuid, |uuid| json!(uuid))),
        ("tier", shown(&config.tier, |tier| tier.as_ref().map_or(json!("none"), choice))),
        ("plugins.dirs", shown(&config.plugin_dirs, |dirs| json!(dirs))),
        ("plugins.reflect", shown(&config.plugin_reflect, |mode| json!(mode))),
        ("plugins.allow_abort", shown(&config.plugin_allow_abort, |allow| json!(allow))),
        ("plugins.env_path", shown(config.plugin_trust.env_path(), |allow| json!(allow))),
        ("plugins.path", shown(config.plugin_trust.path(), |dirs| json!(dirs))),
        ("plugins.require", shown(config.plugin_trust.require(), |demand| json!(demand.to_string()))),
        (
            "plugins.lock",
            shown(config.plugin_trust.lock(), |path| path.as_ref().map_or(json!("none"), |path| json!(path))),
        ),
        ("plugins.trusted_keys", shown(config.plugin_trust.trusted_keys(), |keys| json!(keys))),
        ("plugins.load_mode", shown(config.plugin_trust.load_mode(), |mode| json!(mode))),
    ]);
    let mut settings: BTreeMap<String, Shown> =
        settings.into_iter().map(|(name, shown)| (name.to_owned(), shown)).collect();
    settings.extend(config.show_guards());
    config.freshness.show(&mut settings);
    config.write_behind.show(&mut settings);
    for (number, front) in (1..).zip(&config.fronts) {
        let of_copies = [
            ("", shown(&front.choice, choice)),
            (".ttl", shown(&front.ttl, duration)),
            (".write", shown(&front.write, |write| json!(write.as_str()))),
            (".promote", shown(&front.promote, |promote| json!(promote))),
        ];
        settings.extend(of_copies.map(|(field, shown)| (format!("tier.front.{number}{field}"), shown)));
    }
    settings.extend(config.tier.value.as_ref().into_iter().flat_map(|tier| options(config, tier)));
    settings
}

/// Options of the second tier one by one: they may have other sources than the tier.
fn options<'a>(config: &'a Config, tier: &'a TierChoice) -> impl Iterator<Item = (String, Shown)> {
    let options = match tier {
        TierChoice::None => None,
        TierChoice::Builtin { options, .. } | TierChoice::Plugin { options, .. } => Some(options),
    };
    options.into_iter().flatten().map(|(name, value)| {
        let source: &Source = config.tier_options.get(name).unwrap_or(&config.tier.source);
        (format!("tier.options.{name}"), Shown { value: redacted_option(name, value), source: source.to_string() })
    })
}

pub(super) fn choice(choice: &TierChoice) -> Json {
    match choice {
        TierChoice::None => json!("none"),
        TierChoice::Builtin { scheme, options } => json!({"backend": scheme, "options": redacted(options)}),
        TierChoice::Plugin { library, sha256, options } => {
            let (name, library) = match library {
                LibraryChoice::Path(path) => ("path", json!(path)),
                LibraryChoice::Id(id) => ("plugin", json!(id)),
            };
            json!({name: library, "sha256": sha256, "options": redacted(options)})
        }
    }
}

/// Options without what looks like a secret. References stay: they lead to a secret and are none.
fn redacted(options: &Map<String, Json>) -> Json {
    Json::Object(options.iter().map(|(name, value)| (name.clone(), redacted_option(name, value))).collect())
}

fn redacted_option(name: &str, value: &Json) -> Json {
    let telling = [
        "password",
        "passwd",
        "secret",
        "token",
        "api_key",
        "apikey",
        "credential",
        "auth",
        "passphrase",
        "pwd",
        "private_key",
        "access_key",
    ];
    let lower = name.to_ascii_lowercase();
    match value {
        Json::Object(inner) if inner.contains_key("$secret") => value.clone(),
        _ if telling.iter().any(|word| lower.contains(word)) => json!(HIDDEN),
        other => redacted_value(other),
    }
}

fn redacted_value(value: &Json) -> Json {
    match value {
        Json::Object(inner) => redacted(inner),
        Json::Array(items) => Json::Array(items.iter().map(redacted_value).collect()),
        Json::String(text) => json!(without_password(text)),
        other => other.clone(),
    }
}

/// The scheme of a URL, and nothing of what is none: where a password begins in a wrong URL, nobody can tell.
pub(super) fn scheme_alone(text: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    match text.split_once("://") {
        Some((scheme, _)) if scheme.chars().all(plain) => format!("{scheme}://{HIDDEN}"),
        _ if text == "none" => text.to_owned(),
        _ => HIDDEN.to_owned(),
    }
}

/// A URL without the password of its user: everything up to the last `@`, because a password may hold any byte.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    match rest.rsplit_once('@') {
        None => text.to_owned(),
        Some((user, host)) => {
            let name = user.split_once(':').map_or(user, |(name, _)| name);
            format!("{scheme}://{name}:{HIDDEN}@{host}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let Json::Object(options) = json!({
            "url": "redis://user:hunter2@h:1/0", "token": "hunter2", "nested": {"password": "hunter2"},
            "ref": {"$secret": "env:T"}, "table": "cache",
            "servers": ["redis://a:hun/ter2@h:1", {"secret": "hunter2"}, "redis://:hunter2@g"]
        }) else {
            panic!()
        };
        let text = redacted(&options).to_string();
        assert!(!text.contains("hunter2") && !text.contains("ter2"), "{text}");
        assert!(text.contains("env:T") && text.contains("cache") && text.contains("@h:1/0"), "{text}");
    }
}
