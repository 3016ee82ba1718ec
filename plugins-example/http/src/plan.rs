//! The options, checked and ready for use: what each operation sends and what its answers mean.
//!
//! Whatever cannot work is refused here, before anything is sent, with the name of the option: two origins, a set that drops
//! the key, a secret without encryption.

use std::collections::{BTreeMap, BTreeSet};

use cachekit_plugin::{KeyBytes, Limits};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderName};

use crate::auth::{has_secret, header_name};
use crate::body::Form;
use crate::config::{HttpConfig, KeyAlphabet, OperationConfig};
use crate::life::Lives;
use crate::status::{Answers, Failures};
use crate::template::{HeaderTemplate, UrlTemplate};

/// One operation.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) method: Method,
    pub(crate) url: UrlTemplate,
    pub(crate) headers: Vec<(HeaderName, HeaderTemplate)>,
    pub(crate) answers: Answers,
}

/// All of them, and what they share.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) get: Step,
    pub(crate) set: Step,
    pub(crate) delete: Step,
    pub(crate) exists: Step,
    /// `None`: an entry is read instead.
    pub(crate) health: Option<Step>,
    pub(crate) failures: Failures,
    pub(crate) lives: Lives,
    pub(crate) form: Form,
    pub(crate) limits: Limits,
}

/// What an operation does where its options say nothing, and what it can do at all.
struct Usual {
    name: &'static str,
    methods: &'static [&'static str],
    yes: &'static [u16],
    no: &'static [u16],
    has_key: bool,
}

const GET: Usual = Usual { name: "get", methods: &["GET", "POST"], yes: &[200], no: &[404, 410], has_key: true };
const SET: Usual =
    Usual { name: "set", methods: &["PUT", "POST", "PATCH"], yes: &[200, 201, 204], no: &[], has_key: true };
const DELETE: Usual =
    Usual { name: "delete", methods: &["DELETE", "POST"], yes: &[200, 202, 204], no: &[404, 410], has_key: true };
const EXISTS: Usual =
    Usual { name: "exists", methods: &["HEAD", "GET", "POST"], yes: &[200, 204], no: &[404, 410], has_key: true };
const HEALTH: Usual = Usual { name: "health", methods: &["GET", "HEAD"], yes: &[200, 204], no: &[], has_key: false };

impl Plan {
    /// The error names the option.
    pub(crate) fn new(config: &HttpConfig) -> Result<Self, String> {
        in_range("max_key", config.max_key.into(), 70, 8192)?;
        in_range("max_value", config.max_value, 1, 1 << 30)?;
        in_range("timeout_ms", config.timeout_ms.into(), 1, 600_000)?;
        in_range("connect_timeout_ms", config.connect_timeout_ms.into(), 1, 600_000)?;
        in_range("max_connections", config.max_connections.into(), 1, 1024)?;
        in_range("retries", config.retries.into(), 0, 5)?;
        constants(&config.constants)?;
        let plan = Self {
            get: Step::new(config, &config.get, &GET)?,
            set: Step::new(config, &config.set, &SET)?,
            delete: Step::new(config, &config.delete, &DELETE)?,
            exists: Step::new(config, &config.exists, &EXISTS)?,
            health: match &config.health.url {
                Some(_) => Some(Step::new(config, &config.health, &HEALTH)?),
                None => None,
            },
            failures: Failures::new(&config.status)?,
            lives: Lives::new(&config.ttl)?,
            form: config.json.clone().map_or(Form::Raw, Form::Json),
            limits: Limits::new(config.max_key, config.max_value),
        };
        plan.check(config)?;
        Ok(Self { limits: plan.limits_of(config), ..plan })
    }

    /// Where all requests go.
    pub(crate) fn origin(&self) -> &str {
        self.get.url.origin()
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.get.url.is_encrypted()
    }

    fn check(&self, config: &HttpConfig) -> Result<(), String> {
        let others = [
            (&SET, Some(&self.set)),
            (&DELETE, Some(&self.delete)),
            (&EXISTS, Some(&self.exists)),
            (&HEALTH, self.health.as_ref()),
        ];
        for (usual, step) in others {
            if step.is_some_and(|step| step.url.origin() != self.origin()) {
                return Err(format!(
                    "{}.url: has another origin than get.url, and secrets go to one alone",
                    usual.name
                ));
            }
        }
        if has_secret(config) && !self.is_encrypted() && !config.allow_plain_http {
            return Err(
                "url: is http://, where everybody on the way reads the secret; allow_plain_http permits it".into()
            );
        }
        if (config.client_certificate.is_some(), config.client_key.is_some()) == (true, false)
            || (config.client_certificate.is_some(), config.client_key.is_some()) == (false, true)
        {
            return Err("client_certificate and client_key: need each other".into());
        }
        if self.set.url.has_life().1 && !self.lives.knows_never() {
            return Err(
                "ttl.never: is needed, because set.url holds {ttl} in its path, where it cannot be left out".into()
            );
        }
        Ok(())
    }

    /// Whether the server is told how long an entry lives.
    fn tells_lives(&self) -> bool {
        self.set.url.has_life().0 || self.form.has_life() || self.set.headers.iter().any(|(_, value)| value.has_life())
    }

    fn limits_of(&self, config: &HttpConfig) -> Limits {
        let alphabet = match config.key_bytes {
            KeyAlphabet::Any => KeyBytes::Any,
            KeyAlphabet::Printable => KeyBytes::Printable,
        };
        let limits = Limits::new(config.max_key, config.max_value)
            .with_key_bytes(alphabet)
            .with_deadline_hint_ms(config.timeout_ms);
        if self.tells_lives() {
            limits.with_ttl_step_ms(self.lives.step_ms()).with_ttl_max_ms(self.lives.maximum_ms())
        } else {
            // Every life is rounded up to "for ever": the cache above ends entries by their envelope.
            limits.with_ttl_step_ms(u64::MAX)
        }
    }
}

impl Step {
    fn new(config: &HttpConfig, own: &OperationConfig, usual: &Usual) -> Result<Self, String> {
        let name = usual.name;
        let method = own.method.as_deref().unwrap_or(usual.methods[0]);
        if !usual.methods.contains(&method) {
            return Err(format!("{name}.method: takes {}", usual.methods.join(", ")));
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| format!("{name}.method: {error}"))?;
        let (field, text) = match (&own.url, &config.url) {
            (Some(text), _) => (format!("{name}.url"), text),
            (None, Some(text)) => ("url".to_owned(), text),
            (None, None) => return Err("url: is needed, such as https://cache.example/v1/{key:percent}".into()),
        };
        let url = UrlTemplate::parse(text, &config.constants).map_err(|reason| format!("{field}: {reason}"))?;
        let headers = headers(config, own, name)?;
        let holds_key = url.has_key() || headers.iter().any(|(_, value)| value.has_key());
        if usual.has_key && !holds_key {
            return Err(format!("{field}: holds no key, so that all entries would be one"));
        }
        if !usual.has_key && holds_key {
            return Err(format!("{field}: holds a key, and {name} has none"));
        }
        // A common URL or header may hold the life; without one it is left out.
        if name != "set" && (url.has_life().1 || (own.url.is_some() && url.has_life().0)) {
            return Err(format!("{field}: holds {{ttl}}, which only set has"));
        }
        Ok(Self { method, url, headers, answers: answers(own, usual)? })
    }
}

fn headers(
    config: &HttpConfig,
    own: &OperationConfig,
    name: &str,
) -> Result<Vec<(HeaderName, HeaderTemplate)>, String> {
    let mut headers = BTreeMap::new();
    let common = config.headers.iter().map(|header| ("headers".to_owned(), header));
    for (field, (header, text)) in common.chain(own.headers.iter().map(|header| (format!("{name}.headers"), header))) {
        let parsed = header_name(&field, header, false)?;
        let value =
            HeaderTemplate::parse(text, &config.constants).map_err(|reason| format!("{field}.{parsed}: {reason}"))?;
        headers.insert(parsed.as_str().to_owned(), (parsed, value));
    }
    if name == "set" && !headers.contains_key(CONTENT_TYPE.as_str()) {
        let content_type = config.json.clone().map_or(Form::Raw, Form::Json).content_type();
        headers
            .insert(CONTENT_TYPE.to_string(), (CONTENT_TYPE, HeaderTemplate::parse(content_type, &BTreeMap::new())?));
    }
    Ok(headers.into_values().collect())
}

fn answers(own: &OperationConfig, usual: &Usual) -> Result<Answers, String> {
    let name = usual.name;
    let list = |given: &Option<Vec<u16>>, usual: &[u16]| -> BTreeSet<u16> {
        given.as_deref().unwrap_or(usual).iter().copied().collect()
    };
    let (yes, mut no) = (list(&own.yes, usual.yes), list(&own.no, usual.no));
    // 206 is a part of a value, and what is in a 3xx is none.
    if let Some(odd) = yes.iter().find(|status| !(200..=299).contains(*status) || **status == 206) {
        return Err(format!("{name}.yes holds {odd}: takes statuses from 200 to 299, and not 206"));
    }
    if let Some(odd) = no.iter().find(|status| !(200..=299).contains(*status) && !(400..=499).contains(*status)) {
        return Err(format!("{name}.no holds {odd}: takes statuses from 200 to 299 and from 400 to 499"));
    }
    if yes.is_empty() {
        return Err(format!("{name}.yes: is empty, so that nothing could succeed"));
    }
    if own.no.is_none() {
        no.retain(|status| !yes.contains(status));
    }
    if let Some(both) = yes.intersection(&no).next() {
        return Err(format!("{name}: {both} is in yes and in no"));
    }
    if usual.no.is_empty() && (!no.is_empty() || own.no_header.is_some()) {
        return Err(format!("{name}.no: {name} has no such answer"));
    }
    let no_header = match &own.no_header {
        Some(header) => Some((header_name(&format!("{name}.no_header"), &header.name, true)?, header.value.clone())),
        None => None,
    };
    Ok(Answers { yes, no, no_header })
}

fn constants(constants: &BTreeMap<String, String>) -> Result<(), String> {
    for name in constants.keys() {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if !plain || name.is_empty() || name == "key" || name == "ttl" {
            return Err(format!("constants.{name}: names are letters, digits, `_` and `-`, and neither key nor ttl"));
        }
    }
    Ok(())
}

fn in_range(field: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(format!("{field} = {value}: takes {least} to {most}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Plan, String> {
        Plan::new(&HttpConfig::from_json(json.as_bytes())?)
    }

    #[test]
    fn a_url_alone_is_a_plan() {
        let plan = plan(r#"{"url": "https://h/{key:percent}?ttl={ttl}"}"#).unwrap();
        let methods = [&plan.get, &plan.set, &plan.delete, &plan.exists].map(|step| step.method.as_str());
        assert_eq!(methods, ["GET", "PUT", "DELETE", "HEAD"]);
        assert_eq!((plan.limits.ttl_step_ms, plan.limits.max_key), (1000, 512));
        assert_eq!(plan.limits.key_bytes, KeyBytes::Printable);
    }

    #[test]
    fn limits_tell_what_the_server_makes_of_lives() {
        let step = |json: &str| plan(json).unwrap().limits.ttl_step_ms;
        assert_eq!(step(r#"{"url": "https://h/{key:hex}"}"#), u64::MAX, "nobody tells the server");
        assert_eq!(step(r#"{"url": "https://h/{key:hex}", "set": {"headers": {"X-TTL": "{ttl}"}}}"#), 1000);
        assert_eq!(step(r#"{"url": "https://h/{key:hex}", "json": {"ttl": "t"}, "ttl": {"unit": "milliseconds"}}"#), 1);
        assert_eq!(step(r#"{"url": "https://h/{key:hex}?t={ttl}", "ttl": {"minimum_ms": 60000}}"#), 60_000);
    }

    #[test]
    fn what_cannot_work_is_refused_and_named() {
        for (field, json) in [
            ("url", r#"{}"#),
            ("url", r#"{"url": "https://h/all"}"#),
            ("url", r#"{"url": "https://h/{ttl}/{key:hex}"}"#),
            ("url", r#"{"url": "http://h/{key:hex}", "bearer": {"$secret": "env:K"}}"#),
            ("url", r#"{"url": "http://h/{key:hex}", "secret_headers": {"X-K": {"$secret": "env:K"}}}"#),
            ("get.url", r#"{"url": "https://h/{key:hex}", "get": {"url": "https://h/{key:hex}?t={ttl}"}}"#),
            ("set.url", r#"{"url": "https://h/{key:hex}", "set": {"url": "https://other/{key:hex}"}}"#),
            ("health.url", r#"{"url": "https://h/{key:hex}", "health": {"url": "http://h/up"}}"#),
            ("health.url", r#"{"url": "https://h/{key:hex}", "health": {"url": "https://h/{key:hex}"}}"#),
            ("delete.method", r#"{"url": "https://h/{key:hex}", "delete": {"method": "GET"}}"#),
            ("get.method", r#"{"url": "https://h/{key:hex}", "get": {"method": "get"}}"#),
            ("get.yes", r#"{"url": "https://h/{key:hex}", "get": {"yes": [206]}}"#),
            ("get.yes", r#"{"url": "https://h/{key:hex}", "get": {"yes": [302]}}"#),
            ("get.yes", r#"{"url": "https://h/{key:hex}", "get": {"yes": []}}"#),
            ("get.no", r#"{"url": "https://h/{key:hex}", "get": {"no": [500]}}"#),
            ("get:", r#"{"url": "https://h/{key:hex}", "get": {"yes": [200], "no": [200]}}"#),
            ("set.no", r#"{"url": "https://h/{key:hex}", "set": {"no": [404]}}"#),
            ("status.throttled", r#"{"url": "https://h/{key:hex}", "status": {"throttled": [200]}}"#),
            ("headers.authorization", r#"{"url": "https://h/{key:hex}", "headers": {"Authorization": "x"}}"#),
            ("set.headers.x", r#"{"url": "https://h/{key:hex}", "set": {"headers": {"X": "{nothing}"}}}"#),
            ("constants.key", r#"{"url": "https://h/{key:hex}", "constants": {"key": "x"}}"#),
            ("ttl.never", r#"{"url": "https://h/{key:hex}", "set": {"url": "https://h/{ttl}/{key:hex}"}}"#),
            ("client_key", r#"{"url": "https://h/{key:hex}", "client_certificate": "/x.pem"}"#),
            ("max_key", r#"{"url": "https://h/{key:hex}", "max_key": 69}"#),
            ("max_value", r#"{"url": "https://h/{key:hex}", "max_value": 0}"#),
            ("timeout_ms", r#"{"url": "https://h/{key:hex}", "timeout_ms": 0}"#),
            ("retries", r#"{"url": "https://h/{key:hex}", "retries": 6}"#),
        ] {
            let told = plan(json).expect_err(json);
            assert!(told.contains(field), "{json}: {told}");
        }
    }

    #[test]
    fn a_secret_without_encryption_needs_a_word_of_the_operator() {
        let open = r#"{"url": "http://h/{key:hex}", "bearer": {"$secret": "env:K"}, "allow_plain_http": true}"#;
        assert!(plan(open).is_ok());
        assert!(plan(r#"{"url": "http://h/{key:hex}"}"#).is_ok(), "without a secret there is none to lose");
    }
}
