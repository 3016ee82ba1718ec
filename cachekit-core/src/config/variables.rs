//! Every variable of the environment that is known, with its form, its range and what it sets.
//!
//! One table, so that reading, warnings about misspelt names, and the documentation cannot disagree: a test holds
//! `docs/configuration.md` to it. The names and ranges are those of the cachekit family.

use serde_json::{Map, Value as Json, json};

use super::keys;

/// A variable of the environment.
#[derive(Debug)]
pub struct Variable {
    /// Its name. Read in any case, as the family does.
    pub name: &'static str,
    pub(super) form: Form,
    pub(super) sets: Sets,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Any text that is UTF-8.
    Text,
    /// A whole number.
    Whole { min: u64, max: u64 },
    /// A mode as a decimal number: 384 is 0600.
    Mode,
    /// A number, both ends included.
    Number { min: f64, max: f64 },
    /// A number above zero.
    Positive,
    /// `true` and `false` with their synonyms.
    Boolean,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A JSON list of `host:port` and absolute socket paths.
    Servers,
    /// A token of RFC 6750. Never shown, and passed on by reference.
    Token,
    /// A key in hex, at least 32 bytes. Never shown.
    Key,
    /// Keys in hex, separated by commas. Never shown.
    Keys,
    /// A UUID in any form that Python's `uuid.UUID` takes.
    Uuid,
}

/// What a variable does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sets {
    /// Chooses the backend, or where the configuration is.
    Place,
    /// A setting of the engine.
    Engine,
    /// The option of this name, for backends of these schemes.
    Options(&'static [(&'static [&'static str], &'static str)]),
    /// Nothing, for this reason. Accepted so that one environment serves every member of the family, and warned about.
    Nothing(&'static str),
}

/// Schemes of the Redis backend: one backend, several ways to a server.
pub const REDIS: &[&str] =
    &["redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel"];
pub(super) const MEMCACHED: &[&str] = &["memcached"];
pub(super) const CACHEKITIO: &[&str] = &["cachekitio"];
pub(super) const FILE: &[&str] = &["file"];

const fn variable(name: &'static str, form: Form, sets: Sets) -> Variable {
    Variable { name, form, sets }
}

const ANY_WHOLE: Form = Form::Whole { min: 0, max: u64::MAX };
const SECONDS: Form = Form::Number { min: 0.1, max: 30.0 };

/// Every variable that is read, in the order of its name.
pub const KNOWN_VARIABLES: &[Variable] = &[
    variable("CACHEKIT_ALLOW_CUSTOM_HOST", Form::Boolean, Sets::Options(&[(CACHEKITIO, "allow_custom_host")])),
    variable("CACHEKIT_API_KEY", Form::Token, Sets::Options(&[(CACHEKITIO, "api_key")])),
    variable("CACHEKIT_API_URL", Form::Text, Sets::Options(&[(CACHEKITIO, "api_url")])),
    variable(
        "CACHEKIT_ARROW_COMPRESSION",
        Form::OneOf(&["zstd", "lz4", "none"]),
        Sets::Nothing("Arrow values are read for inspection and never written here"),
    ),
    variable("CACHEKIT_BACKEND", Form::Text, Sets::Place),
    variable("CACHEKIT_COMPRESSION_LEVEL", Form::Whole { min: 1, max: 9 }, Sets::Engine),
    variable("CACHEKIT_CONFIG", Form::Text, Sets::Place),
    variable(
        "CACHEKIT_CONNECTION_POOL_SIZE",
        Form::Whole { min: 1, max: u64::MAX },
        Sets::Options(&[(REDIS, "connection_pool_size"), (CACHEKITIO, "connection_pool_size")]),
    ),
    variable("CACHEKIT_DEFAULT_TTL", ANY_WHOLE, Sets::Engine),
    variable("CACHEKIT_DEPLOYMENT_UUID", Form::Uuid, Sets::Engine),
    variable(
        "CACHEKIT_DEV_MODE",
        Form::Boolean,
        Sets::Nothing("it silences a warning of the Python package that does not exist here"),
    ),
    variable(
        "CACHEKIT_DISABLE_HIREDIS",
        Form::Boolean,
        Sets::Nothing("hiredis is a parser of the Python client; this one has a single parser"),
    ),
    variable("CACHEKIT_ENABLE_COMPRESSION", Form::Boolean, Sets::Engine),
    variable("CACHEKIT_ENCRYPTION_FAIL_CLOSED", Form::Boolean, Sets::Engine),
    variable("CACHEKIT_FILE_CACHE_DIR", Form::Text, Sets::Place),
    variable("CACHEKIT_FILE_DIR_PERMISSIONS", Form::Mode, Sets::Options(&[(FILE, "dir_permissions")])),
    variable(
        "CACHEKIT_FILE_LOCK_TIMEOUT_SECONDS",
        Form::Number { min: 0.5, max: 30.0 },
        Sets::Options(&[(FILE, "lock_timeout_seconds")]),
    ),
    variable(
        "CACHEKIT_FILE_MAX_ENTRY_COUNT",
        Form::Whole { min: 100, max: 1_000_000 },
        Sets::Options(&[(FILE, "max_entry_count")]),
    ),
    variable(
        "CACHEKIT_FILE_MAX_SIZE_MB",
        Form::Whole { min: 1, max: 1_000_000 },
        Sets::Options(&[(FILE, "max_size_mb")]),
    ),
    variable(
        "CACHEKIT_FILE_MAX_VALUE_MB",
        Form::Whole { min: 1, max: 500_000 },
        Sets::Options(&[(FILE, "max_value_mb")]),
    ),
    variable("CACHEKIT_FILE_PERMISSIONS", Form::Mode, Sets::Options(&[(FILE, "permissions")])),
    variable("CACHEKIT_INVALIDATION_LISTENER_ENABLED", Form::Boolean, Sets::Engine),
    variable(
        "CACHEKIT_L1_CLEANUP_INTERVAL_SECONDS",
        Form::Whole { min: 1, max: u64::MAX },
        Sets::Nothing("L1 has no sweep: what has expired makes room when room is needed, and is never served"),
    ),
    variable("CACHEKIT_L1_MAX_SIZE_MB", Form::Whole { min: 1, max: 1 << 30 }, Sets::Engine),
    variable(
        "CACHEKIT_LOG_SAMPLING_RATE",
        Form::Number { min: 0.0, max: 1.0 },
        Sets::Nothing("nothing is logged for each operation, so there is nothing to sample"),
    ),
    variable("CACHEKIT_MASTER_KEY", Form::Key, Sets::Engine),
    variable("CACHEKIT_MAX_CHUNK_SIZE_MB", Form::Whole { min: 1, max: 1 << 30 }, Sets::Engine),
    variable("CACHEKIT_MAX_RETRIES", Form::Whole { min: 0, max: 10 }, Sets::Options(&[(CACHEKITIO, "max_retries")])),
    variable("CACHEKIT_MAX_VALUE_SIZE", Form::Whole { min: 1, max: u64::MAX }, Sets::Engine),
    variable("CACHEKIT_MEMCACHED_CONNECT_TIMEOUT", SECONDS, Sets::Options(&[(MEMCACHED, "connect_timeout")])),
    variable("CACHEKIT_MEMCACHED_KEY_PREFIX", Form::Text, Sets::Options(&[(MEMCACHED, "key_prefix")])),
    variable("CACHEKIT_MEMCACHED_MAX_ITEM_SIZE_BYTES", ANY_WHOLE, Sets::Options(&[(MEMCACHED, "max_item_size_bytes")])),
    variable(
        "CACHEKIT_MEMCACHED_MAX_POOL_SIZE",
        Form::Whole { min: 1, max: 100 },
        Sets::Options(&[(MEMCACHED, "max_pool_size")]),
    ),
    variable(
        "CACHEKIT_MEMCACHED_RETRY_ATTEMPTS",
        Form::Whole { min: 0, max: 10 },
        Sets::Options(&[(MEMCACHED, "retry_attempts")]),
    ),
    variable("CACHEKIT_MEMCACHED_SERVERS", Form::Servers, Sets::Place),
    variable("CACHEKIT_MEMCACHED_TIMEOUT", SECONDS, Sets::Options(&[(MEMCACHED, "timeout")])),
    variable("CACHEKIT_PLUGIN_PATH", Form::Text, Sets::Engine),
    variable("CACHEKIT_PLUGIN_REQUIRE", Form::OneOf(&["none", "hash", "signature"]), Sets::Engine),
    variable("CACHEKIT_PREVIOUS_MASTER_KEYS", Form::Keys, Sets::Engine),
    variable("CACHEKIT_REDIS_URL", Form::Text, Sets::Place),
    variable("CACHEKIT_SOCKET_CONNECT_TIMEOUT", Form::Positive, Sets::Options(&[(REDIS, "socket_connect_timeout")])),
    variable("CACHEKIT_SOCKET_KEEPALIVE", Form::Boolean, Sets::Options(&[(REDIS, "socket_keepalive")])),
    variable("CACHEKIT_SOCKET_TIMEOUT", Form::Positive, Sets::Options(&[(REDIS, "socket_timeout")])),
    variable("CACHEKIT_TIMEOUT", Form::Positive, Sets::Options(&[(CACHEKITIO, "timeout")])),
    variable("REDIS_URL", Form::Text, Sets::Place),
    // Other software's name, which the family's guide lists: read for the backend that has use for it.
    variable("REQUESTS_CA_BUNDLE", Form::Text, Sets::Options(&[(CACHEKITIO, "ca_file")])),
];

/// The variable of this name, in upper case.
pub(super) fn known(name: &str) -> Option<&'static Variable> {
    let at = KNOWN_VARIABLES.binary_search_by(|variable| variable.name.cmp(name)).ok()?;
    KNOWN_VARIABLES.get(at)
}

/// The known name that somebody who typed `name` most likely meant.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(name, KNOWN_VARIABLES.iter().map(|variable| variable.name))
}

/// The name among these that `name` is a slip of.
pub(super) fn nearest_of<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|known| (distance(name.as_bytes(), known.as_bytes()), known));
    // Three slips of the finger, of short names fewer; beyond that it is another word.
    near.min().filter(|(slips, known)| *slips <= 3.min(known.len().div_ceil(3))).map(|(_, known)| known)
}

/// Levenshtein's, row by row. Names are short: longer ones are nobody's slip.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let best = (corner + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = row[j + 1];
            row[j + 1] = best;
        }
    }
    row[b.len()]
}

impl Variable {
    /// The value as an option of a backend takes it. `given` is the name as the environment spells it, which a reference
    /// to a secret must use.
    pub(super) fn read(&self, text: &str, given: &str) -> Result<Json, String> {
        let trimmed = text.trim();
        match self.form {
            Form::Text => Ok(json!(text)),
            Form::Whole { min, max } => whole(trimmed, min, max).map(Json::from),
            Form::Mode if trimmed.len() > 1 && trimmed.starts_with('0') => {
                Err(format!("{text:?} is no decimal number; a mode is written in decimal: 384 is 0600, 448 is 0700"))
            }
            Form::Mode => whole(trimmed, 0, 0o777).map(Json::from),
            Form::Number { min, max } => number(trimmed, |number| (min..=max).contains(&number))
                .ok_or_else(|| format!("{text:?} is no number from {min} to {max}")),
            Form::Positive => number(trimmed, |number| number > 0.0 && number <= 1e9)
                .ok_or_else(|| format!("{text:?} is no number above 0")),
            Form::Boolean => boolean(trimmed).map(Json::Bool),
            Form::OneOf(words) if words.contains(&trimmed) => Ok(json!(trimmed)),
            Form::OneOf(words) => Err(format!("{text:?} is none of {}", words.join(", "))),
            Form::Servers => servers(trimmed),
            Form::Token => token(text).map(|()| json!({ "$secret": format!("env:{given}") })),
            // Their values go nowhere but into the keyring.
            Form::Key => keys::master(text).map(|_| Json::Null),
            Form::Keys => keys::previous_from_list(text).map(|_| Json::Null),
            Form::Uuid => keys::canonical_uuid(trimmed).map(Json::String),
        }
    }

    /// The option it sets for a backend of this scheme.
    pub(super) fn option_of(&self, scheme: &str) -> Option<&'static str> {
        let Sets::Options(options) = self.sets else { return None };
        options.iter().find(|(schemes, _)| schemes.contains(&scheme)).map(|(_, option)| *option)
    }
}

fn whole(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let range = if max == u64::MAX { format!("of at least {min}") } else { format!("from {min} to {max}") };
    match text.parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is no whole number {range}")),
    }
}

fn number(text: &str, takes: impl Fn(f64) -> bool) -> Option<Json> {
    text.parse::<f64>().ok().filter(|number| takes(*number)).map(Json::from)
}

/// As the family's settings read booleans.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "t" | "true" | "y" | "yes" => Ok(true),
        "0" | "off" | "f" | "false" | "n" | "no" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// `["host:port", …]`, or absolute paths of sockets.
fn servers(text: &str) -> Result<Json, String> {
    let form = r#"a JSON list such as ["mc1:11211", "mc2:11211"]"#;
    let Ok(Json::Array(items)) = serde_json::from_str::<Json>(text) else {
        return Err(format!("{text:?} is not {form}"));
    };
    if items.is_empty() {
        return Err(format!("the list names no server; write {form}"));
    }
    for (at, item) in items.iter().enumerate() {
        let refuse = |what: &str| Err(format!("item {at}, {item}, {what}; write {form}"));
        let Some(address) = item.as_str() else { return refuse("is no text") };
        if address.starts_with('/') {
            continue;
        }
        match address.rsplit_once(':') {
            None => return refuse("has no port"),
            Some(("", _)) => return refuse("has no host"),
            Some((_, port)) if !port.parse::<u16>().is_ok_and(|port| port > 0) => {
                return refuse("has a port that is not from 1 to 65535");
            }
            Some(_) => {}
        }
    }
    Ok(Json::Array(items))
}

/// RFC 6750: letters, digits and `-._~+/`, then any number of `=`.
fn token(text: &str) -> Result<(), String> {
    let body = text.trim_end_matches('=');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    match text.chars().position(|c| !plain(c) && c != '=') {
        None if !body.is_empty() && body.chars().all(plain) => Ok(()),
        None => Err("an API key is letters, digits and - . _ ~ + /, with = at its end alone".into()),
        Some(at) => Err(format!(
            "character {} of {} cannot stand in an API key: letters, digits, - . _ ~ + /, and = at the end",
            at + 1,
            text.chars().count()
        )),
    }
}

/// The options that variables set for a backend of this scheme: name of the variable, name of the option.
pub(super) fn options_of(scheme: &str) -> impl Iterator<Item = (&'static Variable, &'static str)> {
    KNOWN_VARIABLES.iter().filter_map(move |variable| Some((variable, variable.option_of(scheme)?)))
}

/// Options with one of them.
pub(super) fn one_option(name: &str, value: Json) -> Map<String, Json> {
    Map::from_iter([(name.to_owned(), value)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_names_stand_once() {
        assert!(KNOWN_VARIABLES.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn every_variable_is_documented() {
        let documented = include_str!("../../../docs/configuration.md");
        for variable in KNOWN_VARIABLES {
            assert!(documented.contains(&format!("`{}`", variable.name)), "{} is not documented", variable.name);
        }
    }

    #[test]
    fn slips_of_the_finger_are_recognized_and_other_words_are_not() {
        assert_eq!(nearest("CACHEKIT_DEFALT_TTL"), Some("CACHEKIT_DEFAULT_TTL"));
        assert_eq!(nearest("CACHEKIT_SOCKET_TIMEOUTS"), Some("CACHEKIT_SOCKET_TIMEOUT"));
        assert_eq!(nearest("CACHEKIT_COLOUR"), None);
    }

    #[test]
    fn servers_are_a_json_list_and_the_bad_item_is_named() {
        let read = |text| servers(text);
        assert_eq!(read(r#"["a:1", "[::1]:65535", "/run/mc.sock"]"#).unwrap().as_array().unwrap().len(), 3);
        for (wrong, expected) in [
            ("mc1:11211", r#"["mc1:11211""#),
            ("[]", "no server"),
            (r#"["a:1", "host"]"#, "item 1"),
            (r#"["host"]"#, "no port"),
            (r#"["h:0"]"#, "1 to 65535"),
            (r#"["h:65536"]"#, "1 to 65535"),
            (r#"["h:+1", 7]"#, "no text"),
            (r#"[":1"]"#, "no host"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(expected), "{wrong}: {error}");
        }
    }

    #[test]
    fn tokens_are_those_of_the_family_and_are_never_repeated() {
        for right in ["ck_live_abc", "a", "ab==", "a-._~+/9"] {
            assert!(token(right).is_ok(), "{right}");
        }
        for wrong in ["abc\n", "a b", "", "żółć", "a,b", "=", "a=b"] {
            let error = token(wrong).unwrap_err();
            assert!(wrong.len() < 2 || !error.contains(wrong), "{error}");
        }
    }
}
