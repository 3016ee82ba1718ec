//! One entry on its way: whose it is, what it is called on the other side, how long it has.
//!
//! A listing gives keys or, where file names are hashes, ids. An entry of ours says its whole key inside, so that it can
//! be named again wherever it goes, also where a store shortens keys.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use cachekit::codec::Envelope;
use cachekit::key::{Namespace, WireKey};
use cachekit_plugin::{Limits, Ttl};

use super::tally::Reason;
use crate::exit::Failure;

/// Tokens of leases are no longer: those of the family have 32 and 36 bytes.
const LONGEST_TOKEN: usize = 64;

/// Which wire keys are meant.
#[derive(Debug)]
pub(super) struct Filter(String);

impl Filter {
    pub(super) fn new(namespace: Option<&str>, prefix: Option<&str>) -> Result<Self, Failure> {
        match (namespace, prefix) {
            (Some(_), Some(_)) => Err(Failure::Usage("--namespace and --prefix exclude each other".into())),
            (Some(namespace), None) => {
                let refuse = |error: cachekit::key::KeyError| Failure::Usage(error.to_string());
                let namespace = Namespace::new(namespace).map_err(refuse)?;
                Ok(Self(String::from_utf8_lossy(namespace.prefix()).into_owned()))
            }
            (None, prefix) => Ok(Self(prefix.unwrap_or_default().to_owned())),
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.0
    }
}

/// An entry that is to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) stored: Bytes,
    /// Its name in the source.
    pub(super) from: Vec<u8>,
    /// Its name in the target.
    pub(super) to: Vec<u8>,
    /// When it ends by its own word: Unix milliseconds, 0 for no word.
    pub(super) expires_ms: u64,
    pub(super) ttl: Ttl,
    /// The wire key, if it is an entry of ours.
    pub(super) wire: Option<Vec<u8>>,
    /// Named and sized like a lease, which an entry may be as well.
    may_be_lease: bool,
}

impl Write {
    /// Names the entry on both sides. `listed` is its key, if the source lists keys.
    pub(super) fn plan(
        listed: Option<&[u8]>,
        stored: Bytes,
        source: &Limits,
        target: &Limits,
        filter: &Filter,
    ) -> Result<Self, Reason> {
        let envelope = Envelope::parse(&stored).ok();
        let wire = match (&envelope, listed) {
            (Some(envelope), _) => envelope.wire_key().to_vec(),
            // Neither the format nor the listing says whose it is.
            (None, None) => return Err(Reason::Foreign),
            (None, Some(listed)) => listed.to_vec(),
        };
        if !wire.starts_with(filter.0.as_bytes()) {
            return Err(Reason::Elsewhere);
        }
        let from = match (listed, name(&wire, envelope.is_some(), source)) {
            // Moved or mixed up: under this key no reader would take it either.
            (Some(listed), named) if listed != wire && Some(listed) != named.as_deref() => {
                return Err(Reason::Misplaced);
            }
            (Some(listed), _) => listed.to_vec(),
            (None, named) => named.ok_or(Reason::Misplaced)?,
        };
        let to = name(&wire, envelope.is_some(), target).ok_or(Reason::Key)?;
        if stored.len() as u64 > target.max_value {
            return Err(Reason::TooLarge);
        }
        let may_be_lease = envelope.is_none() && wire.ends_with(b":lock") && stored.len() <= LONGEST_TOKEN;
        let expires_ms = envelope.as_ref().map_or(0, |envelope| envelope.meta().times.expires_ms);
        let wire = envelope.is_some().then_some(wire);
        Ok(Self { stored, from, to, expires_ms, ttl: Ttl::Never, wire, may_be_lease })
    }

    /// Whether it is the lease of somebody: leases end by themselves, and what stays is an entry that is merely named so.
    pub(super) fn is_lease(&self, life: Ttl) -> bool {
        self.may_be_lease && life != Ttl::Never
    }

    /// Whether its life in the target may be over; `since` it was asked how long that is. A store may end it up to one
    /// `step_ms` of its clock early.
    pub(super) fn may_have_ended(&self, since: Duration, step_ms: u64) -> bool {
        self.ttl.as_ms().is_some_and(|ms| since.as_millis() + u128::from(step_ms) >= u128::from(ms))
    }

    /// Sets its life; `true` if the target has none that long.
    pub(super) fn live(&mut self, life: Ttl, target: &Limits) -> bool {
        self.ttl = life;
        match life {
            Ttl::Ms(ms) if ms.get() > target.ttl_max_ms => {
                self.ttl = Ttl::from_ms(target.ttl_max_ms).unwrap_or(life);
                true
            }
            _ => false,
        }
    }
}

/// What a store with these limits calls a wire key. Keys of ours are shortened as the engine shortens them; others are
/// taken as they are or not at all.
fn name(wire: &[u8], ours: bool, limits: &Limits) -> Option<Vec<u8>> {
    let shortened = || WireKey::parse(wire)?.for_store(limits).ok().map(|key| key.into_owned());
    match ours.then(shortened).flatten() {
        Some(name) => Some(name),
        None => limits.takes_key(wire).then(|| wire.to_vec()),
    }
}

/// The life of an entry of which the store can tell nothing, by its own word.
pub(super) fn by_its_own_word(expires_ms: u64, now_ms: u64) -> Option<Result<Ttl, Reason>> {
    (expires_ms != 0).then(|| Ttl::from_ms(expires_ms.saturating_sub(now_ms)).ok_or(Reason::Gone))
}

/// The end that comes first. A store may round a life up, or keep for ever what ends by its own word.
pub(super) fn sooner(left: Ttl, own: Option<Result<Ttl, Reason>>) -> Result<Ttl, Reason> {
    match own.transpose()? {
        Some(Ttl::Ms(own)) => {
            Ok(Ttl::Ms(left.as_ms().map_or(own, |left| own.min(NonZeroU64::new(left).unwrap_or(own)))))
        }
        _ => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    use cachekit::Cache;
    use cachekit::blocking::wait;
    use cachekit_conformance::Memory;
    use cachekit_plugin::{Backend, Cx, Deadline, Key, KeyBytes};

    use super::*;

    const ANY: Limits = Limits::new(1024, 1 << 20);
    const SHORT: Limits = Limits::new(250, 1 << 20).with_key_bytes(KeyBytes::Printable);

    /// An entry as the engine stores it.
    fn entry(key: &str) -> Bytes {
        let memory = Memory::default();
        let cache = Cache::builder().namespace("ns").backend(std::sync::Arc::new(memory.clone())).build().unwrap();
        cache.blocking().set(key, "value").unwrap();
        let wire = format!("ck:ns:{key}");
        wait(memory.get(Key::from_wire(wire.as_bytes()), &Cx::new(Deadline::NEVER))).unwrap().unwrap()
    }

    fn plan(listed: Option<&[u8]>, stored: Bytes, target: &Limits) -> Result<Vec<u8>, Reason> {
        Write::plan(listed, stored, &ANY, target, &Filter(String::new())).map(|write| write.to)
    }

    #[test]
    fn an_entry_listed_by_id_is_named_by_what_it_says() {
        assert_eq!(plan(None, entry("k"), &ANY).unwrap(), b"ck:ns:k");
        assert_eq!(plan(None, Bytes::from_static(b"python's"), &ANY), Err(Reason::Foreign));
    }

    #[test]
    fn a_key_that_the_target_does_not_take_is_shortened_as_the_engine_does() {
        let name = plan(Some(b"ck:ns:with space"), entry("with space"), &SHORT).unwrap();
        assert!(name.starts_with(b"ck:ns:#") && name.len() == 7 + 64);
        let expected = Namespace::new("ns").unwrap().wire(b"with space").unwrap();
        assert_eq!(name, expected.for_store(&SHORT).unwrap().into_owned());
        assert_eq!(plan(Some(b"with space"), Bytes::from_static(b"raw"), &SHORT), Err(Reason::Key));
    }

    #[test]
    fn an_entry_under_a_key_that_is_not_its_own_stays_where_it_is() {
        assert_eq!(plan(Some(b"ck:ns:other"), entry("k"), &ANY), Err(Reason::Misplaced));
    }

    #[test]
    fn leases_and_what_is_too_large_stay_where_they_are() {
        let any = Filter(String::new());
        let is_lease =
            |key: &[u8], stored: Bytes, life| Write::plan(Some(key), stored, &ANY, &ANY, &any).unwrap().is_lease(life);
        let (token, minute) = (Bytes::from_static(b"token"), Ttl::from_ms(60_000).unwrap());
        assert!(is_lease(b"ck:ns:k:lock", token.clone(), minute));
        // Leases have an end and a short token; other languages may have entries of such names.
        assert!(!is_lease(b"ck:ns:k:lock", token.clone(), Ttl::Never));
        assert!(!is_lease(b"ck:ns:k:lock", Bytes::from(vec![b'v'; 65]), minute));
        assert!(!is_lease(b"ck:ns:k", token, minute));
        assert_eq!(plan(Some(b"ck:ns:k"), entry("k"), &Limits::new(1024, 10)), Err(Reason::TooLarge));
        // A key that merely ends so.
        assert!(!is_lease(b"ck:ns:k:lock", entry("k:lock"), minute));
    }

    #[test]
    fn a_life_is_cut_to_the_longest_of_the_target() {
        let mut write = Write::plan(None, entry("k"), &ANY, &ANY, &Filter(String::new())).unwrap();
        let month = ANY.with_ttl_max_ms(1000);
        assert!(!write.live(Ttl::from_ms(1000).unwrap(), &month) && write.live(Ttl::from_ms(1001).unwrap(), &month));
        assert_eq!(write.ttl, Ttl::from_ms(1000).unwrap());
        let over = |write: &Write, ms, step_ms| write.may_have_ended(Duration::from_millis(ms), step_ms);
        assert!(!over(&write, 998, 1) && over(&write, 999, 1) && over(&write, 0, 1000) && over(&write, u64::MAX, 1));
        write.ttl = Ttl::Never;
        assert!(!over(&write, u64::MAX, u64::MAX));
        assert_eq!(by_its_own_word(0, 5), None);
        assert_eq!(by_its_own_word(10, 4), Some(Ok(Ttl::from_ms(6).unwrap())));
        assert_eq!(by_its_own_word(10, 10), Some(Err(Reason::Gone)));
        let ms = |ms| Ttl::from_ms(ms).unwrap();
        assert_eq!(sooner(Ttl::Never, Some(Ok(ms(5)))), Ok(ms(5)));
        assert_eq!(sooner(ms(3), Some(Ok(ms(5)))), Ok(ms(3)));
        assert_eq!(sooner(ms(1000), Some(Ok(ms(5)))), Ok(ms(5)));
        assert_eq!(sooner(ms(1000), Some(Err(Reason::Gone))), Err(Reason::Gone));
        assert_eq!((sooner(ms(3), None), sooner(Ttl::Never, None)), (Ok(ms(3)), Ok(Ttl::Never)));
    }
}
