//! `cachekit.toml`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use cachekit_plugin::open::{SecretRef, Services};
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use toml::Spanned;
use zeroize::Zeroizing;

use super::fronts::FrontTier;
use super::guards::Toggle;
use super::keys;
use super::{Config, ConfigError, EngineServices, LibraryChoice, Setting, Source, TierChoice, url};
use super::{dictionary, fronts, trust};
use crate::builder::{EPOCH_TTL, NamespaceEpochs};
use crate::codec::{Compression, DEFAULT_THRESHOLD, Serializer};
use crate::guard::fill_lock::FillLocks;

/// Longest configuration file, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A parsed file.
pub(super) struct File {
    path: PathBuf,
    /// Byte offsets of line ends, to turn a span into a line.
    line_ends: Vec<usize>,
    fields: Fields,
}

pub(super) type Field<T> = Option<Spanned<T>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    preset: Field<String>,
    namespace: Field<String>,
    ttl: Field<String>,
    deadline: Field<String>,
    strict: Field<bool>,
    bulkhead: Field<Toggle>,
    breaker: Field<Toggle>,
    retry: Field<Toggle>,
    adaptive_timeout: Field<Toggle>,
    #[serde(default)]
    fill_locks: FillLockFields,
    serializer: Field<String>,
    max_value: Field<Size>,
    #[serde(default)]
    l1: L1,
    #[serde(default)]
    invalidation: Invalidation,
    #[serde(default)]
    freshness: super::freshness::Fields,
    #[serde(default)]
    write_behind: super::behind::Fields,
    #[serde(default)]
    compression: CompressionFields,
    #[serde(default)]
    encryption: Encryption,
    #[serde(default)]
    tier: Vec<Spanned<Tier>>,
    #[serde(default)]
    plugins: trust::Fields,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct L1 {
    enabled: Field<bool>,
    max_bytes: Field<Size>,
    max_entries: Field<u64>,
    ttl_cap: Field<String>,
    coherence: Field<bool>,
    hot_keys: Field<usize>,
    snapshot: Field<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FillLockFields {
    enabled: Field<bool>,
    hold: Field<String>,
    patience: Field<String>,
    fence: Field<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invalidation {
    namespace_epochs: Field<String>,
    epoch_ttl: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompressionFields {
    algorithm: Field<String>,
    level: Field<i64>,
    threshold: Field<Size>,
    dictionary: Field<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encryption {
    enabled: Field<bool>,
    plaintext_in_l1: Field<bool>,
    hash_keys: Field<bool>,
    name_key: Field<SecretRef>,
    reseal: Field<bool>,
    master_key: Field<SecretRef>,
    previous_master_keys: Field<Vec<SecretRef>>,
    fail_closed: Field<bool>,
    deployment_uuid: Field<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tier {
    backend: Option<String>,
    plugin: Option<String>,
    path: Option<PathBuf>,
    sha256: Option<String>,
    ttl: Field<String>,
    write: Field<String>,
    promote: Field<bool>,
    #[serde(default)]
    options: BTreeMap<String, Spanned<Json>>,
}

/// Bytes, as a number or with a unit.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Size {
    Bytes(u64),
    Text(String),
}

impl File {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path, MAX_FILE_BYTES).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let line_ends: Vec<usize> =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        let fields = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let line = line(&line_ends, error.span().map_or(0, |span| span.start));
            let said = without_value(error.message());
            let reason = match field_of(&text, line) {
                Some(field) => format!("{field}: {said}"),
                None => said,
            };
            ConfigError::Syntax { path: path.to_owned(), line, reason }
        })?;
        Ok(Self { path: path.to_owned(), line_ends, fields })
    }

    pub(super) fn preset(&self) -> Option<(String, Source)> {
        let preset = self.fields.preset.as_ref()?;
        Some((preset.get_ref().clone(), self.at(preset)))
    }

    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        let fields = &self.fields;
        self.take(&fields.namespace, &mut config.namespace, "namespace", |name| Ok(name.clone()))?;
        self.take(&fields.ttl, &mut config.ttl, "ttl", |text| duration(text).map(Some))?;
        self.take(&fields.deadline, &mut config.deadline, "deadline", |text| duration(text).map(Some))?;
        self.take(&fields.strict, &mut config.strict, "strict", |strict| Ok(*strict))?;
        self.guards(config)?;
        self.fill_locks(config)?;
        self.take(&fields.serializer, &mut config.serializer, "serializer", |name| match &**name {
            "msgpack" => Ok(Serializer::MessagePack),
            "json" => Ok(Serializer::Json),
            other => Err(format!("{other:?} is none of msgpack, json")),
        })?;
        self.take(&fields.max_value, &mut config.max_value, "max_value", at_least_one)?;
        self.take(&fields.l1.enabled, &mut config.l1_enabled, "l1.enabled", |enabled| Ok(*enabled))?;
        self.take(&fields.l1.max_bytes, &mut config.l1_max_bytes, "l1.max_bytes", at_least_one)?;
        self.take(&fields.l1.max_entries, &mut config.l1_max_entries, "l1.max_entries", |entries| match entries {
            0 => Err("no entry at all; set l1.enabled = false instead".into()),
            entries => Ok(Some(*entries)),
        })?;
        self.take(&fields.l1.ttl_cap, &mut config.l1_ttl_cap, "l1.ttl_cap", |text| duration(text))?;
        self.take(&fields.l1.coherence, &mut config.l1_coherence, "l1.coherence", |coherence| Ok(*coherence))?;
        self.invalidation(config)?;
        self.fields.freshness.apply(self, config)?;
        self.fields.write_behind.apply(self, config)?;
        self.take(&fields.l1.hot_keys, &mut config.l1_hot_keys, "l1.hot_keys", |keys| match *keys {
            keys @ 0..=10_000 => Ok(keys),
            keys => Err(format!("{keys} keys are too many to list; at most 10000")),
        })?;
        self.take(&fields.l1.snapshot, &mut config.l1_snapshot, "l1.snapshot", |path| {
            if path.is_absolute() { Ok(Some(path.clone())) } else { Err("an absolute path, please".into()) }
        })?;
        self.compression(config)?;
        self.encryption(config)?;
        self.fields.plugins.apply(self, config)?;
        self.tiers(config)
    }

    fn guards(&self, config: &mut Config) -> Result<(), ConfigError> {
        let fields = &self.fields;
        let guards = [
            ("bulkhead", &fields.bulkhead),
            ("breaker", &fields.breaker),
            ("retry", &fields.retry),
            ("adaptive_timeout", &fields.adaptive_timeout),
        ];
        for (guard, field) in guards {
            let Some(field) = field else { continue };
            field.get_ref().apply(guard, config, self.at(field), |value| self.at(value))?;
        }
        Ok(())
    }

    fn fill_locks(&self, config: &mut Config) -> Result<(), ConfigError> {
        let fields = &self.fields.fill_locks;
        self.take(&fields.enabled, &mut config.fill_locks_enabled, "fill_locks.enabled", |enabled| Ok(*enabled))?;
        self.take(&fields.hold, &mut config.fill_locks_hold, "fill_locks.hold", |text| match duration(text)? {
            hold if FillLocks::HOLD.contains(&hold) => Ok(hold),
            _ => Err(format!("{text:?} is outside 10ms to 1h")),
        })?;
        self.take(&fields.patience, &mut config.fill_locks_patience, "fill_locks.patience", |text| {
            match duration(text)? {
                patience if patience <= FillLocks::MAX_PATIENCE => Ok(patience),
                _ => Err(format!("{text:?} is longer than 1h")),
            }
        })?;
        self.take(&fields.fence, &mut config.fill_locks_fence, "fill_locks.fence", |fence| Ok(*fence))
    }

    fn invalidation(&self, config: &mut Config) -> Result<(), ConfigError> {
        let fields = &self.fields.invalidation;
        let field = "invalidation.namespace_epochs";
        self.take(&fields.namespace_epochs, &mut config.namespace_epochs, field, |when| match &**when {
            "auto" => Ok(NamespaceEpochs::Auto),
            "on" => Ok(NamespaceEpochs::On),
            "off" => Ok(NamespaceEpochs::Off),
            other => Err(format!("{other:?} is none of auto, on, off")),
        })?;
        self.take(&fields.epoch_ttl, &mut config.epoch_ttl, "invalidation.epoch_ttl", |text| match duration(text)? {
            ttl if EPOCH_TTL.contains(&ttl) => Ok(ttl),
            _ => Err(format!("{text:?} is outside 1s to 10years")),
        })
    }

    fn compression(&self, config: &mut Config) -> Result<(), ConfigError> {
        let fields = &self.fields.compression;
        let field = "compression.dictionary";
        self.take(&fields.dictionary, &mut config.dictionary, field, |path| dictionary::read(path).map(Some))?;
        let mut threshold = Setting::default_to(DEFAULT_THRESHOLD as u64);
        self.take(&fields.threshold, &mut threshold, "compression.threshold", size)?;
        let threshold = usize::try_from(threshold.value).unwrap_or(usize::MAX);
        let mut level = Setting::default_to(3);
        self.take(&fields.level, &mut level, "compression.level", |level| match level {
            1..=19 => Ok(*level as i32),
            other => Err(format!("{other} is outside 1 to 19, zstd's levels")),
        })?;
        let algorithm = fields.algorithm.as_ref().map(|name| name.get_ref().as_str());
        let Some(first) = [
            fields.algorithm.as_ref().map(|field| self.at(field)),
            fields.level.as_ref().map(|field| self.at(field)),
            fields.threshold.as_ref().map(|field| self.at(field)),
        ]
        .into_iter()
        .flatten()
        .next() else {
            return Ok(());
        };
        let refuse = |field: &str, reason: String| Err(ConfigError::value(field, first.clone(), reason));
        let compression = match algorithm.unwrap_or("zstd") {
            "zstd" => Compression::Zstd { level: level.value, threshold },
            name @ ("lz4" | "none") if fields.level.is_some() => {
                return refuse("compression.level", format!("{name} has no levels"));
            }
            "lz4" => Compression::Lz4 { threshold },
            "none" if fields.threshold.is_some() => {
                return refuse("compression.threshold", "nothing is compressed with algorithm = \"none\"".into());
            }
            "none" => Compression::None,
            other => return refuse("compression.algorithm", format!("{other:?} is none of zstd, lz4, none")),
        };
        config.compression.set(compression, first);
        Ok(())
    }

    /// Keys are named by reference and read now: a file that is missing is the mistake of whoever wrote the line.
    fn encryption(&self, config: &mut Config) -> Result<(), ConfigError> {
        let fields = &self.fields.encryption;
        for (field, setting, name) in [
            (&fields.enabled, &mut config.encryption_enabled, "encryption.enabled"),
            (&fields.plaintext_in_l1, &mut config.encryption_plaintext_in_l1, "encryption.plaintext_in_l1"),
            (&fields.hash_keys, &mut config.encryption_hash_keys, "encryption.hash_keys"),
            (&fields.reseal, &mut config.encryption_reseal, "encryption.reseal"),
        ] {
            self.take(field, setting, name, |yes| Ok(*yes))?;
        }
        let key = |secret: &SecretRef| keys::master(&Zeroizing::new(EngineServices.secret(&secret.reference)?));
        let field = "encryption.master_key";
        self.take(&fields.master_key, &mut config.master_key, field, |secret| key(secret).map(Some))?;
        let field = "encryption.name_key";
        self.take(&fields.name_key, &mut config.encryption_name_key, field, |secret| key(secret).map(Some))?;
        let field = "encryption.previous_master_keys";
        self.take(&fields.previous_master_keys, &mut config.previous_master_keys, field, |secrets| {
            let texts: Result<Vec<_>, _> =
                secrets.iter().map(|secret| EngineServices.secret(&secret.reference).map(Zeroizing::new)).collect();
            keys::previous(texts?.iter().map(|text| text.as_str()))
        })?;
        let field = "encryption.fail_closed";
        self.take(&fields.fail_closed, &mut config.encryption_fail_closed, field, |closed| Ok(*closed))?;
        let field = "encryption.deployment_uuid";
        self.take(&fields.deployment_uuid, &mut config.deployment_uuid, field, |uuid| {
            keys::canonical_uuid(uuid).map(Some)
        })
    }

    /// The last `[[tier]]` is the one that counts; those before it stand in front of it.
    fn tiers(&self, config: &mut Config) -> Result<(), ConfigError> {
        let Some((last, fronts)) = self.fields.tier.split_last() else { return Ok(()) };
        for spanned in fronts {
            let tier = spanned.get_ref();
            let mut front = FrontTier::new(self.tier(spanned)?, self.at(spanned));
            front.options = self.option_lines(tier);
            self.take(&tier.ttl, &mut front.ttl, "tier.ttl", |text| fronts::ttl(duration(text)?))?;
            self.take(&tier.write, &mut front.write, "tier.write", |name| fronts::write(name))?;
            self.take(&tier.promote, &mut front.promote, "tier.promote", |promote| Ok(*promote))?;
            config.fronts.push(front);
        }
        let tier = last.get_ref();
        let of_copies = [
            ("tier.ttl", tier.ttl.as_ref().map(|field| self.at(field))),
            ("tier.write", tier.write.as_ref().map(|field| self.at(field))),
            ("tier.promote", tier.promote.as_ref().map(|field| self.at(field))),
        ];
        for (field, line) in of_copies {
            if let Some(line) = line {
                let reason =
                    "this is the last [[tier]], which keeps entries and no copies; it belongs to one before it";
                return Err(ConfigError::value(field, line, reason.into()));
            }
        }
        config.tier_options = self.option_lines(tier);
        config.tier.set(Some(self.tier(last)?), self.at(last));
        Ok(())
    }

    fn option_lines(&self, tier: &Tier) -> BTreeMap<String, Source> {
        tier.options.iter().map(|(name, value)| (name.clone(), self.at(value))).collect()
    }

    fn tier(&self, spanned: &Spanned<Tier>) -> Result<TierChoice, ConfigError> {
        let (tier, source) = (spanned.get_ref(), self.at(spanned));
        let refuse = |reason: String| ConfigError::value("tier", source.clone(), reason);
        let beside: Map<String, Json> =
            tier.options.iter().map(|(name, value)| (name.clone(), value.get_ref().clone())).collect();
        let library = match (&tier.backend, &tier.plugin, &tier.path) {
            (Some(url), None, None) => {
                let mut choice = url::choose(url).map_err(refuse)?;
                if tier.sha256.is_some() && !matches!(choice, TierChoice::Plugin { .. }) {
                    return Err(refuse("sha256 belongs to a plugin, not to a backend of this program".into()));
                }
                match &mut choice {
                    TierChoice::None if beside.is_empty() => {}
                    TierChoice::None => return Err(refuse("backend = \"none\" takes no options".into())),
                    TierChoice::Builtin { options, .. } => merge(options, &beside).map_err(refuse)?,
                    TierChoice::Plugin { options, sha256, .. } => {
                        merge(options, &beside).map_err(refuse)?;
                        if tier.sha256.is_some() && sha256.is_some() && tier.sha256 != *sha256 {
                            return Err(refuse("sha256 stands in the URL and beside it, with different values".into()));
                        }
                        *sha256 = sha256.take().or_else(|| tier.sha256.clone());
                    }
                }
                return Ok(choice);
            }
            (None, Some(id), None) => LibraryChoice::Id(id.clone()),
            (None, None, Some(path)) if path.is_absolute() => LibraryChoice::Path(path.clone()),
            (None, None, Some(path)) => return Err(refuse(format!("path {path:?} is not absolute"))),
            (None, None, None) => {
                return Err(refuse("name one of backend = \"URL\", path = \"/abs/lib.so\", plugin = \"id\"".into()));
            }
            _ => return Err(refuse("backend, path and plugin exclude each other; name one".into())),
        };
        let (sha256, options) = (tier.sha256.clone(), beside);
        Ok(TierChoice::Plugin { library, sha256, options })
    }

    pub(super) fn take<F, T>(
        &self,
        field: &Field<F>,
        setting: &mut Setting<T>,
        name: &str,
        read: impl Fn(&F) -> Result<T, String>,
    ) -> Result<(), ConfigError> {
        let Some(field) = field else { return Ok(()) };
        let source = self.at(field);
        let value = read(field.get_ref()).map_err(|reason| ConfigError::value(name, source.clone(), reason))?;
        setting.set(value, source);
        Ok(())
    }

    fn at<T>(&self, field: &Spanned<T>) -> Source {
        Source::File { path: self.path.clone(), line: line(&self.line_ends, field.span().start) }
    }
}

/// The line of a byte, from 1.
fn line(line_ends: &[usize], at: usize) -> usize {
    line_ends.partition_point(|end| *end < at) + 1
}

/// What a line assigns to, if it looks like one of our fields.
fn field_of(text: &str, line: usize) -> Option<&str> {
    let (name, _) = text.lines().nth(line - 1)?.split_once('=')?;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'0'..=b'9' | b'_');
    Some(name.trim()).filter(|name| (1..=40).contains(&name.len()) && name.bytes().all(is_plain))
}

/// What serde says of a text that stands where something else belongs, without the text.
fn without_value(message: &str) -> String {
    match (message.split_once("string \""), message.rsplit_once("\", expected")) {
        (Some((before, _)), Some((_, after))) => format!("{before}text, expected{after}"),
        _ => message.to_owned(),
    }
}

/// Reads a regular file of bounded size: a path that names a pipe or a device must neither hang nor fill the memory.
pub(super) fn read(path: &Path, max: u64) -> std::io::Result<String> {
    let meta = path.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    // With all of its room from the start: text that grows leaves copies behind, and this may be a secret.
    let mut text = String::with_capacity(usize::try_from(meta.len().min(max)).unwrap_or(0) + 1);
    std::fs::File::open(path)?.take(max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("it has more than {max} bytes")));
    }
    Ok(text)
}

/// Adds options that a URL did not already give.
fn merge(into: &mut Map<String, Json>, from: &Map<String, Json>) -> Result<(), String> {
    for (name, value) in from {
        if into.insert(name.clone(), value.clone()).is_some_and(|old| old != *value) {
            return Err(format!("option {name} stands in the URL and in [tier.options], with different values"));
        }
    }
    Ok(())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is no duration such as \"250ms\", \"10m\": {error}"))
}

fn size(size: &Size) -> Result<u64, String> {
    match size {
        Size::Bytes(bytes) => Ok(*bytes),
        Size::Text(text) => text
            .parse::<ByteSize>()
            .map(|size| size.as_u64())
            .map_err(|_| format!("{text:?} is no size such as 65536, \"64KiB\", \"100MiB\"")),
    }
}

pub(super) fn at_least_one(value: &Size) -> Result<u64, String> {
    match size(value)? {
        0 => Err("must be at least 1 byte".into()),
        bytes => Ok(bytes),
    }
}
