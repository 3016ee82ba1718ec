//! Templates of URLs and header values, and how a key gets into them.
//!
//! What it protects: the structure of a request. A key is written with letters, digits and `- _ . ~ %` alone, so it can
//! end no path segment, begin no query, fragment or header line, and name no host; the whole is then read back by a URL parser,
//! and if that understands anything else than what stands there (a segment `..`, above all), nothing is sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use reqwest::header::HeaderValue;

/// Longest template, bytes.
const MAX_TEMPLATE_BYTES: usize = 2048;

/// How a key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Letters, digits and `-_.~` as they are, every other byte as `%XX`. Readable; the server decodes it, and some servers
    /// then take `/` and `..` for structure.
    Percent,
    /// RFC 4648 section 5, without padding. A third longer; case matters.
    Base64Url,
    /// Two digits a byte. Twice as long; safe on servers that ignore case.
    Hex,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Key(Encoding),
    Life,
}

/// What the placeholders stand for in one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filling<'a> {
    pub(crate) key: &'a [u8],
    /// `None` leaves out what holds `{ttl}`.
    pub(crate) life: Option<u64>,
}

/// A sequence of pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts(Vec<Part>);

impl Parts {
    /// `constant` gives a constant the form it has at this place.
    fn parse(
        text: &str,
        constants: &BTreeMap<String, String>,
        constant: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(start);
            let inside = from.strip_prefix('{').and_then(|from| from.split_once('}'));
            let Some((name, after)) = inside else {
                return Err("a `{` or `}` stands alone; in a URL they are written %7B and %7D".into());
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match name {
                "key:percent" => Part::Key(Encoding::Percent),
                "key:base64url" => Part::Key(Encoding::Base64Url),
                "key:hex" => Part::Key(Encoding::Hex),
                "key" => return Err("{key} needs its form: {key:percent}, {key:base64url} or {key:hex}".into()),
                "ttl" => Part::Life,
                name => match constants.get(name) {
                    Some(value) => Part::Text(constant(value).map_err(|reason| format!("constants.{name}: {reason}"))?),
                    None => return Err(format!("{{{name}}} is neither key, nor ttl, nor one of `constants`")),
                },
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    fn has_key(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Key(_)))
    }

    fn has_life(&self) -> bool {
        self.0.contains(&Part::Life)
    }

    /// Appends to `out`; `false`, and nothing of use in `out`, if a life is needed and there is none.
    fn fill(&self, filling: Filling<'_>, out: &mut String) -> bool {
        for part in &self.0 {
            match (part, filling.life) {
                (Part::Text(text), _) => out.push_str(text),
                (Part::Key(encoding), _) => write_key(filling.key, *encoding, out),
                (Part::Life, Some(life)) => drop(write!(out, "{life}")),
                (Part::Life, None) => return false,
            }
        }
        true
    }
}

/// Every byte but the unreserved ones of RFC 3986.
fn write_percent(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn write_key(key: &[u8], encoding: Encoding, out: &mut String) {
    match encoding {
        Encoding::Percent => write_percent(key, out),
        Encoding::Base64Url => URL_SAFE_NO_PAD.encode_string(key, out),
        Encoding::Hex => {
            for byte in key {
                let _ = write!(out, "{byte:02x}");
            }
        }
    }
}

/// Where requests of one operation go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlTemplate {
    /// Scheme, host and port, as a parser wrote them.
    origin: String,
    path: Parts,
    /// The parameters, each with its name; one that holds a life that there is not is left out.
    query: Vec<Parts>,
}

impl UrlTemplate {
    /// Reads a template. The error does not repeat the text, which may hold a password.
    pub(crate) fn parse(text: &str, constants: &BTreeMap<String, String>) -> Result<Self, String> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(format!("it has more than {MAX_TEMPLATE_BYTES} characters"));
        }
        if text.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'\\' || byte == b'#') {
            return Err(
                "it holds a space, a backslash, a `#`, a control character or a letter that is not ASCII".into()
            );
        }
        let form = "it must be http:// or https://, a host, and a path that begins with /";
        let (scheme, rest) = text.split_once("://").ok_or(form)?;
        let (authority, _) = rest.split_once('/').ok_or(form)?;
        if authority.contains(['{', '}', '@', '%', '?']) || authority.is_empty() {
            return Err("its host is written plainly, without placeholders, credentials and escapes".into());
        }
        let origin = Url::parse(&format!("{scheme}://{authority}/")).map_err(|error| error.to_string())?;
        if !["http", "https"].contains(&origin.scheme()) || origin.port() == Some(0) {
            return Err(form.into());
        }
        let behind = &rest[authority.len()..];
        let (path, query) = behind.split_once('?').map_or((behind, None), |(path, query)| (path, Some(query)));
        let constant = |value: &str| {
            let mut escaped = String::new();
            write_percent(value.as_bytes(), &mut escaped);
            Ok(escaped)
        };
        let query = query.into_iter().flat_map(|query| query.split('&'));
        let template = Self {
            origin: origin.origin().ascii_serialization(),
            path: Parts::parse(path, constants, constant)?,
            query: query.map(|pair| Parts::parse(pair, constants, constant)).collect::<Result<_, _>>()?,
        };
        // What is wrong with every key is wrong with this one.
        template.fill(Filling { key: b"k", life: Some(1) }).map_err(|_| {
            "a URL parser reads it as another one: a segment `..`, or a character that has to be escaped".to_owned()
        })?;
        Ok(template)
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.origin.starts_with("https:")
    }

    pub(crate) fn has_key(&self) -> bool {
        self.path.has_key() || self.query.iter().any(Parts::has_key)
    }

    /// Whether a life is sent, and whether there has to be one.
    pub(crate) fn has_life(&self) -> (bool, bool) {
        let required = self.path.has_life();
        (required || self.query.iter().any(Parts::has_life), required)
    }

    /// The URL of one request; an error if a parser would read it as another one.
    pub(crate) fn fill(&self, filling: Filling<'_>) -> Result<Url, AnotherUrl> {
        let mut text = self.origin.clone();
        if !self.path.fill(filling, &mut text) {
            return Err(AnotherUrl);
        }
        let mut separator = '?';
        for pair in &self.query {
            let before = text.len();
            text.push(separator);
            if pair.fill(filling, &mut text) {
                separator = '&';
            } else {
                text.truncate(before);
            }
        }
        Url::parse(&text).ok().filter(|url| url.as_str() == text).ok_or(AnotherUrl)
    }
}

/// A key would lead to another place than its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnotherUrl;

/// The value of one header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderTemplate(Parts);

impl HeaderTemplate {
    pub(crate) fn parse(text: &str, constants: &BTreeMap<String, String>) -> Result<Self, String> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(format!("it has more than {MAX_TEMPLATE_BYTES} characters"));
        }
        let plain = |text: &str| {
            let plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            if plain { Ok(text.to_owned()) } else { Err("takes printable ASCII".to_owned()) }
        };
        plain(text)?;
        Parts::parse(text, constants, plain).map(Self)
    }

    pub(crate) fn has_key(&self) -> bool {
        self.0.has_key()
    }

    pub(crate) fn has_life(&self) -> bool {
        self.0.has_life()
    }

    /// `None` leaves the header out.
    pub(crate) fn fill(&self, filling: Filling<'_>) -> Option<HeaderValue> {
        let mut text = String::new();
        let filled = self.0.fill(filling, &mut text);
        // Printable ASCII is a header value; what was left out is none.
        filled.then(|| HeaderValue::from_str(&text).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constants() -> BTreeMap<String, String> {
        [("ns".to_owned(), "my space/1".to_owned())].into()
    }

    fn url(template: &str, key: &[u8], life: Option<u64>) -> Result<String, AnotherUrl> {
        let template = UrlTemplate::parse(template, &constants()).unwrap();
        template.fill(Filling { key, life }).map(String::from)
    }

    #[test]
    fn placeholders_are_filled_each_in_its_form() {
        let key = b"a/b?\xff";
        for (template, wanted) in [
            ("https://h/v/{key:percent}", "https://h/v/a%2Fb%3F%FF"),
            ("https://h/v/{key:base64url}", "https://h/v/YS9iP_8"),
            ("https://h/v/{key:hex}", "https://h/v/612f623fff"),
            ("https://H:443/{ns}/x-{key:hex}.bin", "https://h/my%20space%2F1/x-612f623fff.bin"),
            ("http://h:80/?k={key:percent}&ns={ns}", "http://h/?k=a%2Fb%3F%FF&ns=my%20space%2F1"),
            ("https://h/{key:hex}?a=1&ttl={ttl}&b=2", "https://h/612f623fff?a=1&ttl=60&b=2"),
        ] {
            assert_eq!(url(template, key, Some(60)).unwrap(), wanted, "{template}");
        }
    }

    #[test]
    fn a_parameter_without_its_life_is_left_out_alone() {
        for (template, wanted) in [
            ("https://h/{key:hex}?ttl={ttl}", "https://h/6b"),
            ("https://h/{key:hex}?ttl={ttl}&b=2", "https://h/6b?b=2"),
            ("https://h/{key:hex}?a=1&ttl={ttl}&b=2", "https://h/6b?a=1&b=2"),
        ] {
            assert_eq!(url(template, b"k", None).unwrap(), wanted);
        }
        assert_eq!(url("https://h/{ttl}/{key:hex}", b"k", None), Err(AnotherUrl));
    }

    #[test]
    fn no_key_changes_the_structure_of_a_url() {
        let long = vec![b'/'; 64 << 10];
        let hostile: [&[u8]; 17] = [
            b"../admin",
            b"..",
            b".",
            b"/",
            b"//evil.example/",
            b"a?b=c",
            b"a#b",
            b"%2e%2e%2f",
            b"%2f",
            b"\r\nX: y",
            b"\0",
            b"@evil",
            b":8080",
            b"\\\\evil",
            "\u{202e}\u{feff}caf\u{e9}".as_bytes(),
            b"\xff\xfe",
            &long,
        ];
        for template in ["https://h:8443/a/{key:percent}/b?c=d", "https://h:8443/a/x?k={key:percent}&c=d"] {
            for key in hostile {
                let Ok(filled) = url(template, key, None) else {
                    assert!(template.contains("/{key:percent}/") && (key == b".." || key == b"."), "{key:?}");
                    continue;
                };
                let read = Url::parse(&filled).unwrap();
                assert_eq!((read.host_str(), read.port(), read.fragment()), (Some("h"), Some(8443), None));
                assert_eq!(
                    read.path_segments().unwrap().count(),
                    if template.contains("/b?") { 3 } else { 2 },
                    "{filled}"
                );
                assert_eq!(read.query_pairs().last().unwrap().0, "c", "{filled}");
                assert!(filled.bytes().all(|byte| byte.is_ascii_graphic()), "{filled}");
            }
        }
    }

    #[test]
    fn every_encoding_tells_every_two_bytes_apart() {
        for encoding in [Encoding::Percent, Encoding::Base64Url, Encoding::Hex] {
            let mut seen = std::collections::BTreeSet::new();
            for first in 0..=255_u8 {
                for second in [b'%', b'2', first] {
                    let mut text = String::new();
                    write_key(&[first, second], encoding, &mut text);
                    seen.insert(text);
                }
            }
            assert_eq!(seen.len(), 256 * 3 - 2, "{encoding:?}: two keys look alike");
        }
    }

    #[test]
    fn templates_that_cannot_work_are_refused_without_being_repeated() {
        for text in [
            "",
            "h/{key:hex}",
            "ftp://h/{key:hex}",
            "https://h",
            "https:///x",
            "https://{ns}/x",
            "https://{key:hex}.h/",
            "https://user:hunter2@h/",
            "https://h%2e/x",
            "https://h/{key}",
            "https://h/{other}",
            "https://h/{key:hex",
            "https://h/}",
            "https://h/../{key:hex}",
            "https://h/a b",
            "https://h/a#{key:hex}",
            "https://h\\x/",
            "https://h/{{key:hex}}",
            "https://h:0/",
            "https://h/\u{e9}",
            "https://h/x?'",
        ] {
            let told = UrlTemplate::parse(text, &constants()).expect_err(text);
            assert!(!told.contains("hunter2") && !told.is_empty(), "{told}");
        }
    }

    #[test]
    fn a_header_takes_no_line_break_from_anywhere() {
        let breaks = [("ns".to_owned(), "x\r\nEvil: 1".to_owned())].into();
        assert!(HeaderTemplate::parse("{ns}", &breaks).is_err());
        assert!(HeaderTemplate::parse("a\r\nb", &constants()).is_err());
        let template = HeaderTemplate::parse("k={key:percent};{ttl}", &constants()).unwrap();
        let filled = template.fill(Filling { key: b"a\r\nb", life: Some(7) }).unwrap();
        assert_eq!(filled.to_str().unwrap(), "k=a%0D%0Ab;7");
        assert_eq!(template.fill(Filling { key: b"k", life: None }), None);
    }
}
