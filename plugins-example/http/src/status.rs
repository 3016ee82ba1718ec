//! What a status means: an answer, or a failure of a certain kind.
//!
//! The server is not trusted to be the one that was meant: a proxy, a login page or a server of another version answers as
//! well. What is in no list is an error, never a hit and never a miss.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use cachekit_plugin::{Kind, Retry};
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

use crate::config::StatusConfig;

/// Longest pause that is handed on.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The answers of one operation.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    pub(crate) yes: BTreeSet<u16>,
    pub(crate) no: BTreeSet<u16>,
    /// Turns a yes into a no.
    pub(crate) no_header: Option<(HeaderName, String)>,
}

/// The failures of all of them.
#[derive(Debug, Clone)]
pub(crate) struct Failures {
    lists: [(Class, BTreeSet<u16>); 4],
}

/// What kind of failure a status is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Throttled,
    Transient,
    Auth,
    TooLarge,
    /// A request that this server does not take, or an answer that is none.
    Misfit,
    /// A success that is none of the expected ones.
    Odd,
}

/// A status that is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    class: Class,
    pub(crate) retry_after: Option<Duration>,
}

impl Answers {
    /// `true` for yes, `false` for no.
    pub(crate) fn read(&self, status: StatusCode, headers: &HeaderMap) -> Option<bool> {
        if self.no.contains(&status.as_u16()) {
            return Some(false);
        }
        self.yes.contains(&status.as_u16()).then(|| !self.is_denied(headers))
    }

    fn is_denied(&self, headers: &HeaderMap) -> bool {
        let Some((name, value)) = &self.no_header else { return false };
        headers.get_all(name).iter().any(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    }
}

impl Failures {
    pub(crate) fn new(config: &StatusConfig) -> Result<Self, String> {
        let list = |field: &str, statuses: &[u16]| {
            let odd = statuses.iter().find(|status| !(400..=599).contains(*status));
            match odd {
                Some(odd) => Err(format!("status.{field} holds {odd}: takes statuses from 400 to 599")),
                None => Ok(statuses.iter().copied().collect()),
            }
        };
        Ok(Self {
            lists: [
                (Class::Throttled, list("throttled", &config.throttled)?),
                (Class::Transient, list("transient", &config.transient)?),
                (Class::Auth, list("auth", &config.auth)?),
                (Class::TooLarge, list("too_large", &config.too_large)?),
            ],
        })
    }

    /// What `status` refuses.
    pub(crate) fn refusal(&self, status: StatusCode, headers: &HeaderMap) -> Refusal {
        let listed = self.lists.iter().find(|(_, list)| list.contains(&status.as_u16())).map(|(class, _)| *class);
        let class = listed.unwrap_or(match status.as_u16() {
            300..=499 => Class::Misfit,
            500..=599 => Class::Transient,
            _ => Class::Odd,
        });
        Refusal { status, class, retry_after: retry_after(headers, SystemTime::now()) }
    }
}

impl Refusal {
    pub(crate) fn class(&self) -> (Kind, Option<Retry>) {
        let later = self.retry_after.map(Retry::After);
        match self.class {
            Class::Throttled => (Kind::Throttled, later),
            Class::Transient => (Kind::Transient, later),
            Class::Auth => (Kind::Auth, None),
            Class::TooLarge => (Kind::TooLarge, None),
            Class::Misfit => (Kind::Config, None),
            Class::Odd => (Kind::Corrupt, None),
        }
    }

    /// Whether the server turned the request away before it did anything.
    pub(crate) fn is_throttled(&self) -> bool {
        self.class == Class::Throttled
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The reason phrase is the standard's, not the server's.
        let meaning = match (self.class, self.status.as_u16()) {
            (Class::Throttled, _) => "it asks for fewer requests",
            (Class::Transient, _) => "it may pass",
            (Class::Auth, _) => "it does not take the credentials",
            (Class::TooLarge, _) => "key or value are larger than it takes",
            (Class::Misfit, 300..=399) => "a redirect, which is never followed, because the secret would follow it",
            (Class::Misfit, _) => {
                "it does not take this request, or the status belongs into `yes` or `no` of this operation"
            }
            (Class::Odd, _) => "a status that is in no list of this operation",
        };
        write!(f, "the server answered {}: {meaning}", self.status)
    }
}

/// Seconds, or a date: then compared with the server's own `Date` where there is one, because our clocks may differ.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long pause, not none.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = |text: &str| httpdate::parse_http_date(text).ok();
        let server_now = headers.get(DATE).and_then(|now| date(now.to_str().ok()?)).unwrap_or(now);
        date(text)?.duration_since(server_now).unwrap_or_default()
    };
    Some(pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use cachekit_plugin::Operation;

    use super::*;
    use crate::error::HttpError;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn class(status: u16) -> (Kind, Retry) {
        let failures = Failures::new(&StatusConfig::default()).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let error = HttpError::Status(failures.refusal(status, &HeaderMap::new())).during(Operation::Get);
        (error.kind(), error.retry())
    }

    #[test]
    fn a_status_that_nobody_listed_is_an_error_of_its_kind() {
        for (status, kind) in [
            (206, Kind::Corrupt),
            (100, Kind::Corrupt),
            (301, Kind::Config),
            (307, Kind::Config),
            (400, Kind::Config),
            (404, Kind::Config),
            (405, Kind::Config),
            (401, Kind::Auth),
            (403, Kind::Auth),
            (413, Kind::TooLarge),
            (431, Kind::TooLarge),
            (999, Kind::Corrupt),
        ] {
            assert_eq!(class(status), (kind, Retry::No), "{status}");
        }
        for status in [408, 425, 500, 501, 503, 520, 599] {
            assert_eq!(class(status), (Kind::Transient, Retry::Now), "{status}");
        }
        assert_eq!(class(429).0, Kind::Throttled);
    }

    #[test]
    fn the_lists_of_an_operation_are_its_answers() {
        let no_header = Some((HeaderName::from_static("x-deleted"), "false".to_owned()));
        let answers = Answers { yes: [200, 204].into(), no: [404].into(), no_header };
        let read = |status, pairs: &[(&'static str, &str)]| {
            answers.read(StatusCode::from_u16(status).unwrap(), &headers(pairs))
        };
        assert_eq!(read(200, &[]), Some(true));
        assert_eq!(read(204, &[("x-deleted", "False")]), Some(false));
        assert_eq!(read(204, &[("x-deleted", "true")]), Some(true));
        assert_eq!(read(404, &[]), Some(false));
        assert_eq!(read(410, &[]), None);
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        for (text, seconds) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("99999", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("Wed, 21 Oct 2026 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2026 07:27:00 GMT", Some(0)),
            ("Wed, 21 Oct 2099 07:28:00 GMT", Some(3600)),
        ] {
            assert_eq!(
                retry_after(&headers(&[("retry-after", text)]), now),
                seconds.map(Duration::from_secs),
                "{text:?}"
            );
        }
        // A server whose clock is an hour ahead of ours.
        let ahead =
            headers(&[("retry-after", "Wed, 21 Oct 2026 08:28:05 GMT"), ("date", "Wed, 21 Oct 2026 08:28:00 GMT")]);
        assert_eq!(retry_after(&ahead, now), Some(Duration::from_secs(5)));
    }
}
