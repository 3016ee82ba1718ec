//! Backends by URL: `scheme://place?option=value&…`.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value as Json};

use super::{LibraryChoice, TierChoice};

/// A backend URL, taken apart.
#[derive(Clone, PartialEq)]
pub struct BackendUrl {
    /// What stands before `://`.
    pub scheme: String,
    /// Between `://` and the path: hosts, for backends that have them.
    pub authority: String,
    /// From the first `/` on, decoded.
    pub path: String,
    /// After `?`, decoded. Booleans are those, and so are numbers that are written as they are printed (`5`, `0.5`, `5.0`);
    /// everything else is text.
    pub options: Map<String, Json>,
}

/// The scheme alone: passwords stand before hosts and in options.
impl fmt::Debug for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendUrl").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl BackendUrl {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            // The mistakes that people make: `redis:localhost`, `redis/localhost`, a bare path.
            let hint = match text.find([':', '/']) {
                Some(0) if !text.starts_with(':') => format!("; did you mean file://{text}?"),
                Some(end) if ["redis", "rediss"].contains(&&text[..end]) => {
                    "; expected redis://host:port/db, such as redis://localhost:6379/0".to_owned()
                }
                Some(end) if text[..end] == *"memcached" => "; expected memcached://host:port,host:port".to_owned(),
                _ => String::new(),
            };
            return Err(format!(
                "{} is not a URL: a backend is named by one, such as file:///var/cache/app, or by \"none\"{hint}",
                shown(text)
            ));
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
        if scheme.is_empty() || !scheme.chars().all(plain) {
            return Err("the scheme of a URL is lower-case letters, digits, + - .".into());
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match place.find('/') {
            Some(slash) => place.split_at(slash),
            None => (place, ""),
        };
        let mut options = Map::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("an option after the ? has no value: write name=value")?;
            let (name, value) = (decode(name)?, decode(value)?);
            // What a text says may not change by looking like a number: a tenant `12e4` is not the tenant 120000.0.
            let value = match serde_json::from_str::<Json>(&value) {
                Ok(scalar @ (Json::Number(_) | Json::Bool(_))) if is_written(&scalar, &value) => scalar,
                _ => Json::String(value),
            };
            if options.insert(name.clone(), value).is_some() {
                return Err(format!("option {name} stands twice"));
            }
        }
        Ok(Self { scheme: scheme.into(), authority: authority.into(), path: decode(path)?, options })
    }
}

/// Whether a scalar, printed, is this text again.
fn is_written(scalar: &Json, text: &str) -> bool {
    let printed = scalar.to_string();
    printed == text
}

/// What is no URL, for an error: as it is, unless it may hold a password.
pub(super) fn shown(text: &str) -> String {
    if text.contains('@') || text.chars().count() > 80 {
        return format!("a text of {} characters", text.chars().count());
    }
    format!("{text:?}")
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "it is not UTF-8 after decoding".to_owned())?;
    if decoded.contains('\0') {
        return Err("it holds a NUL".into());
    }
    Ok(decoded.into_owned())
}

/// What a URL, or the word `none`, chooses.
pub(super) fn choose(text: &str) -> Result<TierChoice, String> {
    if text == "none" {
        return Ok(TierChoice::None);
    }
    let BackendUrl { scheme, authority, path, mut options } = BackendUrl::parse(text)?;
    match scheme.as_str() {
        "plugin" => {
            if !authority.is_empty() || !path.starts_with('/') {
                return Err("a plugin is named by its absolute path: plugin:///usr/lib/cachekit/libstore.so".into());
            }
            let sha256 = match options.remove("sha256") {
                None => None,
                Some(Json::String(digest)) => Some(digest),
                // Too short for a digest, and refused as it was written: 64 digits are text.
                Some(other) => Some(other.to_string()),
            };
            let library = LibraryChoice::Path(PathBuf::from(path));
            Ok(TierChoice::Plugin { library, sha256, options })
        }
        "file" => {
            if !authority.is_empty() || !path.starts_with('/') {
                return Err(format!("a directory is named by its absolute path: file:///{authority}{path}"));
            }
            if options.insert("dir".into(), Json::String(path)).is_some() {
                return Err("option dir and the path of the URL exclude each other".into());
            }
            Ok(TierChoice::Builtin { scheme, options })
        }
        _ => {
            // Backends with hosts read the URL themselves.
            let url = text.split_once('?').map_or(text, |(url, _)| url);
            options.insert("url".into(), Json::String(url.into()));
            Ok(TierChoice::Builtin { scheme, options })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_url_names_a_directory_with_options() {
        let TierChoice::Builtin { scheme, options } =
            choose("file:///tmp/a%20b?max_size_mb=10&durability=file").unwrap()
        else {
            panic!()
        };
        assert_eq!(scheme, "file");
        assert_eq!(
            Json::Object(options),
            serde_json::json!({"dir": "/tmp/a b", "max_size_mb": 10, "durability": "file"})
        );
    }

    #[test]
    fn a_url_shows_no_password() {
        let url = BackendUrl::parse("redis://user:hunter2@h:1/0?password=hunter2").unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
    }

    #[test]
    fn a_plugin_url_names_a_library() {
        let choice = choose("plugin:///opt/x.so?table=cache&sha256=00").unwrap();
        let TierChoice::Plugin { library, sha256, options } = choice else { panic!() };
        assert_eq!(library, LibraryChoice::Path("/opt/x.so".into()));
        assert_eq!((sha256.as_deref(), options.len()), (Some("00"), 1));
    }

    #[test]
    fn an_option_is_a_number_only_where_the_number_is_what_was_written() {
        let written =
            "tenant=12e4&long=123456789012345678901234&zeros=1.50&minus=-0&wait=0.5&float=5.0&count=7&on=true";
        let url = BackendUrl::parse(&format!("redis://h?{written}&largest=18446744073709551615")).unwrap();
        assert_eq!(
            Json::Object(url.options),
            serde_json::json!({
                "tenant": "12e4", "long": "123456789012345678901234", "zeros": "1.50", "minus": "-0",
                "wait": 0.5, "float": 5.0, "count": 7, "on": true, "largest": u64::MAX,
            })
        );
        let digits = "1".repeat(64);
        let TierChoice::Plugin { sha256, .. } = choose(&format!("plugin:///x.so?sha256={digits}")).unwrap() else {
            panic!()
        };
        assert_eq!(sha256, Some(digits));
    }

    #[test]
    fn documented_mistakes_get_their_hint() {
        for (wrong, hint) in [
            ("/var/cache", "file:///var/cache"),
            ("redis:localhost:6379", "\"redis:localhost:6379\" is not a URL"),
            ("redis:localhost:6379", "redis://host:port/db"),
            ("redis/localhost:6379", "redis://localhost:6379/0"),
            ("redis:u:hunter2@h", "a text of 17 characters"),
            ("memcached:h:1", "memcached://host:port"),
            ("", "is not a URL"),
            (":", "is not a URL"),
            ("file://var/cache", "file:///var/cache"),
            ("plugin://lib.so", "absolute path"),
            ("FILE:///x", "lower-case"),
            ("file:///x?a", "no value"),
            ("file:///x?a=1&a=2", "twice"),
            ("file:///x%00", "NUL"),
            ("file:///x?dir=/y", "exclude each other"),
        ] {
            let error = choose(wrong).unwrap_err();
            assert!(error.contains(hint), "{wrong}: {error}");
        }
    }
}
