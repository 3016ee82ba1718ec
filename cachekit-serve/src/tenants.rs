//! Who is who: API keys, and the tenant that each leads to.
//!
//! Keys are kept and looked up as SHA-256 digests under a salt of this process. Nobody outside can choose a key so that
//! its digest shares a beginning with another's, so the time of a lookup tells nothing of the keys; and memory holds none.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use cachekit_plugin::Limits;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::error::ServeError;
use crate::key;

/// Keys of all tenants together.
const MAX_KEYS: usize = 4096;
/// Shorter ones are guessed: 16 characters of the alphabet are 96 bits if they are random.
const MIN_KEY: usize = 16;
const MAX_KEY: usize = 512;

/// One tenant.
pub(crate) struct Tenant {
    /// What all its keys begin with in the store.
    pub(crate) prefix: String,
    /// Its requests under way.
    pub(crate) in_flight: Arc<Semaphore>,
}

/// Whose key it is.
#[derive(Clone)]
pub(crate) enum Holder {
    Tenant(Arc<Tenant>),
    /// May read the metrics and nothing else.
    Metrics,
}

/// All keys.
pub(crate) struct Tenants {
    salt: [u8; 32],
    holders: HashMap<[u8; 32], Holder>,
    /// Whether anybody may read metrics.
    pub(crate) metrics: bool,
}

impl Tenants {
    /// Checks names and keys. `keys` are pairs of tenant and key; a tenant may have several keys.
    pub(crate) fn new(
        keys: Vec<(String, String)>,
        metrics_key: Option<String>,
        in_flight: usize,
        limits: &Limits,
    ) -> Result<Self, ServeError> {
        if keys.is_empty() {
            return Err(ServeError::NoKeys);
        }
        if keys.len() > MAX_KEYS {
            return Err(ServeError::TooManyKeys { count: keys.len(), max: MAX_KEYS });
        }
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| ServeError::Random(error.to_string()))?;
        let mut this = Self { salt, holders: HashMap::new(), metrics: metrics_key.is_some() };
        let mut tenants: HashMap<String, Arc<Tenant>> = HashMap::new();
        for (name, key) in keys {
            let tenant = match tenants.get(&name) {
                Some(tenant) => tenant.clone(),
                None => {
                    let tenant = Arc::new(Tenant::new(&name, in_flight, limits)?);
                    tenants.insert(name.clone(), tenant.clone());
                    tenant
                }
            };
            this.add(&format!("tenant {name:?}"), &key, Holder::Tenant(tenant))?;
        }
        if let Some(key) = metrics_key {
            this.add("the metrics", &key, Holder::Metrics)?;
        }
        Ok(this)
    }

    fn add(&mut self, owner: &str, key: &str, holder: Holder) -> Result<(), ServeError> {
        let refuse = |reason| Err(ServeError::Key { owner: owner.to_owned(), reason });
        if key.len() < MIN_KEY {
            return refuse("it has fewer than 16 characters");
        }
        if key.len() > MAX_KEY {
            return refuse("it has more than 512 characters");
        }
        if !is_token(key) {
            return refuse("it has characters beside A-Z a-z 0-9 - . _ ~ + / and = at its end");
        }
        if self.holders.insert(self.digest(key), holder).is_some() {
            return refuse("it stands twice");
        }
        Ok(())
    }

    fn digest(&self, key: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.salt).chain_update(key).finalize().into()
    }

    /// Who sent this.
    pub(crate) fn who(&self, headers: &HeaderMap) -> Option<Holder> {
        let mut found = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (found.next(), found.next()) else { return None };
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") || key.len() > MAX_KEY {
            return None;
        }
        self.holders.get(&self.digest(key)).cloned()
    }
}

impl Tenant {
    fn new(name: &str, in_flight: usize, limits: &Limits) -> Result<Self, ServeError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(ServeError::Tenant(name.to_owned()));
        }
        let prefix = key::prefix(name);
        let needed = key::needed(&prefix);
        if !limits.takes_key(&needed) {
            let (max_key, needed) = (limits.max_key, needed.len());
            return Err(ServeError::StoreKeys { max_key, tenant: name.to_owned(), needed });
        }
        Ok(Self { prefix, in_flight: Arc::new(Semaphore::new(in_flight)) })
    }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").field("keys", &self.holders.len()).finish_non_exhaustive()
    }
}

/// RFC 6750's alphabet of bearer tokens.
fn is_token(key: &str) -> bool {
    let body = key.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ck_test_0123456789";

    fn tenants(keys: &[(&str, &str)]) -> Result<Tenants, ServeError> {
        let keys = keys.iter().map(|(tenant, key)| (tenant.to_string(), key.to_string())).collect();
        Tenants::new(keys, Some("metrics_0123456789".into()), 1, &Limits::new(250, 1))
    }

    fn who(tenants: &Tenants, authorization: &[&str]) -> Option<String> {
        let headers = authorization.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap()));
        match tenants.who(&headers.collect())? {
            Holder::Tenant(tenant) => Some(tenant.prefix.clone()),
            Holder::Metrics => Some("metrics".into()),
        }
    }

    #[test]
    fn a_key_leads_to_its_tenant() {
        let tenants = tenants(&[("a", KEY), ("b", "ck_test_9876543210"), ("a", "ck_test_the_second")]).unwrap();
        assert_eq!(who(&tenants, &["Bearer ck_test_0123456789"]).as_deref(), Some("cks:a:"));
        assert_eq!(who(&tenants, &["bearer ck_test_the_second"]).as_deref(), Some("cks:a:"));
        assert_eq!(who(&tenants, &["Bearer ck_test_9876543210"]).as_deref(), Some("cks:b:"));
        assert_eq!(who(&tenants, &["Bearer metrics_0123456789"]).as_deref(), Some("metrics"));
    }

    #[test]
    fn anything_else_leads_nowhere() {
        let tenants = tenants(&[("a", KEY)]).unwrap();
        let long = format!("Bearer {}", "k".repeat(513));
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Basic ck_test_0123456789"],
            &["Bearer ck_test_012345678"],
            &["Bearer ck_test_0123456789 "],
            &["Bearer  ck_test_0123456789"],
            &["Bearer CK_TEST_0123456789"],
            &["Bearer ck_test_0123456789", "Bearer ck_test_0123456789"],
            &[&long],
        ] {
            assert_eq!(who(&tenants, wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_and_keys_that_cannot_be_used_are_refused_without_being_shown() {
        for (tenant, key) in
            [("a", "short"), ("a", "ck_test with a space"), ("a", "================"), ("a:b", KEY), ("", KEY)]
        {
            let error = tenants(&[(tenant, key)]).unwrap_err().to_string();
            assert!(!error.contains(key), "{error}");
        }
        assert!(matches!(tenants(&[("a", KEY), ("b", KEY)]), Err(ServeError::Key { reason: "it stands twice", .. })));
        assert!(matches!(tenants(&[]), Err(ServeError::NoKeys)));
        assert!(!format!("{:?}", tenants(&[("a", KEY)]).unwrap()).contains(KEY));
        let tiny = Tenants::new(vec![("a".into(), KEY.into())], None, 1, &Limits::new(64, 1));
        assert!(matches!(tiny, Err(ServeError::StoreKeys { needed: 71, .. })));
    }
}
