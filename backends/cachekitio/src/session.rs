//! What the service is told of the cache above: whose session a request belongs to, and how the tier in the process does.
//!
//! The service shows these figures to the owner of the API key. Without a cache above there is nothing to tell but that.

use std::time::{SystemTime, UNIX_EPOCH};

use cachekit_plugin::CacheActivity;
use http::{HeaderMap, HeaderName, HeaderValue};

const L1_STATUS: HeaderName = HeaderName::from_static("x-cachekit-l1-status");
const SESSION_ID: HeaderName = HeaderName::from_static("x-cachekit-session-id");
const SESSION_START: HeaderName = HeaderName::from_static("x-cachekit-session-start");
const L1_HITS: HeaderName = HeaderName::from_static("x-cachekit-l1-hits");
const L2_HITS: HeaderName = HeaderName::from_static("x-cachekit-l2-hits");
const MISSES: HeaderName = HeaderName::from_static("x-cachekit-misses");
const L1_HIT_RATE: HeaderName = HeaderName::from_static("x-cachekit-l1-hit-rate");

/// The life of one instance, as the service sees it.
pub(crate) struct Session {
    id: HeaderValue,
    start: HeaderValue,
}

impl Session {
    /// Begins now, under a random name. The error is the operating system's, which has no randomness to give.
    pub(crate) fn begin() -> Result<Self, String> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| format!("no random session name: {error}"))?;
        let start_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let id = uuid_v4(random).parse().map_err(|_| "no session name".to_owned())?;
        Ok(Self { id, start: HeaderValue::from(u64::try_from(start_ms).unwrap_or(0)) })
    }

    /// Adds what is told with one request.
    pub(crate) fn tell(&self, activity: Option<CacheActivity>, headers: &mut HeaderMap) {
        let has_l1 = activity.is_some_and(|activity| activity.l1_enabled);
        // A request reaches this place only after L1 missed.
        headers.insert(L1_STATUS, HeaderValue::from_static(if has_l1 { "miss" } else { "disabled" }));
        let Some(CacheActivity { l1_hits, l2_hits, misses, .. }) = activity else { return };
        headers.insert(SESSION_ID, self.id.clone());
        headers.insert(SESSION_START, self.start.clone());
        headers.insert(L1_HITS, l1_hits.into());
        headers.insert(L2_HITS, l2_hits.into());
        headers.insert(MISSES, misses.into());
        if let Ok(rate) = hit_rate(l1_hits, l2_hits).parse() {
            headers.insert(L1_HIT_RATE, rate);
        }
    }
}

/// The share of L1 in all hits, three decimals, as the family's Python client counts it.
fn hit_rate(l1_hits: u64, l2_hits: u64) -> String {
    let hits = l1_hits as f64 + l2_hits as f64;
    format!("{:.3}", if hits > 0.0 { l1_hits as f64 / hits } else { 0.0 })
}

fn uuid_v4(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_cache_above_nothing_is_told_but_that() {
        let mut headers = HeaderMap::new();
        Session::begin().unwrap().tell(None, &mut headers);
        assert_eq!((headers.len(), headers[L1_STATUS].as_bytes()), (1, &b"disabled"[..]));
    }

    #[test]
    fn what_the_cache_did_is_told() {
        let mut headers = HeaderMap::new();
        let activity = CacheActivity { l1_enabled: true, l1_hits: 2, l2_hits: 1, misses: 7 };
        Session::begin().unwrap().tell(Some(activity), &mut headers);
        let told = |name: HeaderName| headers[name].to_str().unwrap().to_owned();
        assert_eq!(
            [told(L1_STATUS), told(L1_HITS), told(L2_HITS), told(MISSES), told(L1_HIT_RATE)],
            ["miss", "2", "1", "7", "0.667"]
        );
        assert!(told(SESSION_START).parse::<u64>().unwrap() > 1_700_000_000_000, "milliseconds since 1970");
        assert_eq!(told(SESSION_ID).split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }

    #[test]
    fn two_sessions_have_two_names_and_a_rate_without_hits_is_zero() {
        assert_ne!(Session::begin().unwrap().id, Session::begin().unwrap().id);
        assert_eq!((hit_rate(0, 0), hit_rate(u64::MAX, 0)), ("0.000".into(), "1.000".into()));
    }
}
