//! From what a caller calls a key to the bytes under which a store keeps it.
//!
//! The first step of every operation. It protects the stores from keys they cannot take and the callers from each other:
//! two different keys never share a wire key, whatever bytes they hold.
//!
//! ```text
//! ck:<namespace>:<key>                     the wire key, as L1 and the envelope know it
//! ck:<namespace>:~<64 hex digits>          the same, of a cache that hashes its keys (`crypto/names.rs`)
//! ck:<namespace>:#<64 hex digits>          what a store gets when the wire key is too long for it, or has bytes it refuses:
//!                                          BLAKE2b-256 of the whole wire key
//! ck::<namespace>:t<tag>                   where the epoch of a tag is kept; no key of a caller is there, because no namespace
//!                                          is empty. Shortened alike
//! ck::<namespace>:n                        where that of the namespace is kept
//! ```

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use blake2::{Blake2b, Digest, digest::consts::U32};
use cachekit_plugin::{Key, Limits};
use smallvec::SmallVec;

use crate::crypto::{HashedKey, NameKey};

/// Longest key of a caller, bytes. A key names a thing; one that is longer carries the thing.
pub const MAX_KEY_BYTES: usize = 32 << 10;
/// Longest namespace, bytes: with the shortened form it stays below memcached's 250.
pub const MAX_NAMESPACE_BYTES: usize = 128;

/// The namespace of caches that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What all wire keys begin with.
pub(crate) const PREFIX: &[u8] = b"ck:";

/// What wire keys of the engine's own begin with: those of an empty namespace, which nobody can have.
pub(crate) const RESERVED: &[u8] = b"ck::";

/// What a key of a store is the epoch of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EpochOf {
    /// Of a tag.
    Tag,
    /// Of this namespace.
    Namespace(Namespace),
}

/// What `store_key` is the epoch of, if of anything.
pub(crate) fn epoch_of(store_key: &[u8]) -> Option<EpochOf> {
    let rest = store_key.strip_prefix(RESERVED)?;
    let (name, kind) = rest.split_at_checked(rest.iter().position(|byte| *byte == b':')?)?;
    let namespace = std::str::from_utf8(name).ok().and_then(|name| Namespace::new(name).ok())?;
    match kind {
        b":n" => Some(EpochOf::Namespace(namespace)),
        [b':', b't' | b'#', ..] => Some(EpochOf::Tag),
        _ => None,
    }
}

/// A key or a namespace that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A key names something; the empty one names nothing.
    #[error("the key is empty")]
    Empty,
    /// A key beyond the limit.
    #[error("the key has {len} bytes, at most {MAX_KEY_BYTES} are taken; hash what is longer")]
    TooLong {
        /// Its length, bytes.
        len: usize,
    },
    /// A namespace that would make wire keys ambiguous or unprintable.
    #[error(
        "the namespace {namespace:?} cannot be used: 1 to {MAX_NAMESPACE_BYTES} printable ASCII characters without space and colon"
    )]
    Namespace {
        /// As it was given.
        namespace: String,
    },
    /// Even the shortened form is too long for the store.
    #[error("the store takes keys of {max} bytes, too few for {needed}: choose a shorter namespace")]
    StoreLimit {
        /// What the store takes, bytes.
        max: u32,
        /// What the shortened form needs, bytes.
        needed: usize,
    },
    /// A key of interop mode that the store does not take. It is never shortened: another language would look elsewhere.
    #[error(
        "the store takes keys of {max} bytes of its alphabet, and not this one of {len}, which cannot be shortened"
    )]
    Verbatim {
        /// Its length, bytes.
        len: usize,
        /// What the store takes, bytes.
        max: u32,
    },
}

/// A validated namespace with the beginning of its wire keys.
#[derive(Clone)]
pub struct Namespace {
    /// `ck:<namespace>:`
    prefix: Arc<[u8]>,
    /// What hashes its keys and tags; `None`: they are stored as they are.
    names: Option<Arc<NameKey>>,
}

/// By name: within one cache all namespaces hash their keys, or none does.
impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.prefix == other.prefix
    }
}

impl Eq for Namespace {}

impl Namespace {
    /// Validates a name. Its keys are stored as they are.
    pub fn new(name: &str) -> Result<Self, KeyError> {
        let printable = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if name.is_empty() || name.len() > MAX_NAMESPACE_BYTES || !printable {
            return Err(KeyError::Namespace { namespace: name.chars().take(MAX_NAMESPACE_BYTES).collect() });
        }
        Ok(Self { prefix: [PREFIX, name.as_bytes(), b":"].concat().into(), names: None })
    }

    /// The same namespace, in which keys are replaced by their keyed hashes.
    pub(crate) fn hashing(self, names: Option<Arc<NameKey>>) -> Self {
        Self { names, ..self }
    }

    /// Another namespace of the same cache.
    pub(crate) fn beside(&self, name: &str) -> Result<Self, KeyError> {
        Ok(Self::new(name)?.hashing(self.names.clone()))
    }

    /// Whether keys are replaced by their hashes, so that listings show those.
    pub fn hashes_keys(&self) -> bool {
        self.names.is_some()
    }

    /// The name.
    pub fn name(&self) -> &str {
        let name = &self.prefix[PREFIX.len()..self.prefix.len() - 1];
        // Validated as ASCII when it was made.
        std::str::from_utf8(name).unwrap_or_default()
    }

    /// What all wire keys of this namespace begin with, and no other's.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// A tag as entries carry it and as its epoch is filed: hashed where keys are, under a prefix that no key has.
    pub(crate) fn stored_tag<'a>(&self, tag: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.names {
            None => Cow::Borrowed(tag),
            Some(names) => Cow::Owned(names.hash(self.tag_epoch(b"").as_bytes(), tag).to_vec()),
        }
    }

    /// Where the epoch of a tag of this namespace is kept; the tag as entries carry it.
    pub(crate) fn tag_epoch(&self, tag: &[u8]) -> WireKey {
        self.epoch_key(b't', tag)
    }

    /// Where the epoch of this namespace itself is kept.
    pub(crate) fn own_epoch(&self) -> WireKey {
        self.epoch_key(b'n', b"")
    }

    /// What follows a name of another kind is a hex digit (`ck::dictionary:…`), so that of a namespace that happens to be called like
    /// one is never taken for it.
    fn epoch_key(&self, kind: u8, name: &[u8]) -> WireKey {
        let mut bytes = SmallVec::from_slice(RESERVED);
        bytes.extend_from_slice(&self.prefix[PREFIX.len()..]);
        let prefix_len = Some(bytes.len());
        bytes.push(kind);
        bytes.extend_from_slice(name);
        WireKey { bytes, prefix_len }
    }

    /// The wire key of `key`.
    pub fn wire(&self, key: &[u8]) -> Result<WireKey, KeyError> {
        let prefix_len = Some(self.prefix.len());
        self.with_wire(key, |wire| WireKey { bytes: SmallVec::from_slice(wire), prefix_len })
    }

    /// What follows the prefix in the wire key of `key`: the key, or its hash, for which there is room.
    #[inline]
    pub(crate) fn rest<'a>(&self, key: &'a [u8], room: &'a mut Option<HashedKey>) -> Result<&'a [u8], KeyError> {
        match (key.len(), &self.names) {
            (0, _) => Err(KeyError::Empty),
            (1..=MAX_KEY_BYTES, None) => Ok(key),
            (1..=MAX_KEY_BYTES, Some(names)) => Ok(&*room.insert(names.hash(&self.prefix, key))),
            (len, _) => Err(KeyError::TooLong { len }),
        }
    }

    /// The wire key with this [rest](Self::rest), in its two parts and not put together: for a look into L1, where the way
    /// most often ends.
    #[inline]
    pub(crate) fn parts<'a>(&'a self, rest: &'a [u8]) -> WireKeyRef<'a> {
        WireKeyRef::new(&self.prefix, rest)
    }

    /// Runs `look` with the wire key of `key`, written on the stack. A [`WireKey`] is made to travel, and moving its 200 bytes
    /// through a few functions costs more than a look into L1.
    #[inline]
    pub(crate) fn with_wire<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<T, KeyError> {
        let mut room = None;
        Ok(self.joined(self.rest(key, &mut room)?, look))
    }

    /// The same for a [rest](Self::rest).
    #[inline]
    pub(crate) fn joined<T>(&self, rest: &[u8], look: impl FnOnce(&[u8]) -> T) -> T {
        let prefix = &*self.prefix;
        let mut bytes = [0; INLINE_BYTES];
        match bytes.get_mut(..prefix.len() + rest.len()) {
            Some(wire) => {
                wire[..prefix.len()].copy_from_slice(prefix);
                wire[prefix.len()..].copy_from_slice(rest);
                look(wire)
            }
            None => look(&[prefix, rest].concat()),
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Namespace").field(&self.name()).finish()
    }
}

/// Wire keys of up to this many bytes need no allocation.
const INLINE_BYTES: usize = 176;

/// A wire key, as one piece or as the beginning that its namespace has in common and the rest.
#[derive(Clone, Copy)]
pub struct WireKeyRef<'a> {
    prefix: &'a [u8],
    rest: &'a [u8],
}

impl<'a> WireKeyRef<'a> {
    /// The key that is `prefix` followed by `rest`.
    #[inline]
    pub const fn new(prefix: &'a [u8], rest: &'a [u8]) -> Self {
        Self { prefix, rest }
    }

    /// Its length, bytes.
    pub(crate) const fn len(&self) -> usize {
        self.prefix.len() + self.rest.len()
    }

    /// In one piece.
    pub(crate) fn to_vec(self) -> Vec<u8> {
        [self.prefix, self.rest].concat()
    }

    /// Whether this is the whole of it.
    #[inline]
    pub(crate) fn is(&self, wire_key: &[u8]) -> bool {
        match wire_key.split_at_checked(self.prefix.len()) {
            Some((prefix, rest)) => rest == self.rest && is_same_prefix(prefix, self.prefix),
            None => false,
        }
    }
}

/// Whether two slices of one length are alike, by two words that overlap where they have between 8 and 16 bytes, as most
/// prefixes do: a call of `memcmp` for so few costs more than the comparison. And for none at all it may cost 50 ns: it reads
/// no byte of what an empty slice points to, but asks the processor to hold back the fault.
#[inline]
fn is_same_prefix(a: &[u8], b: &[u8]) -> bool {
    match (a.first_chunk::<8>(), b.first_chunk::<8>(), a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a_first), Some(b_first), Some(a_last), Some(b_last)) if a.len() <= 16 => {
            a_first == b_first && a_last == b_last
        }
        _ => a.is_empty() || a == b,
    }
}

impl<'a> From<&'a [u8]> for WireKeyRef<'a> {
    #[inline]
    fn from(wire_key: &'a [u8]) -> Self {
        Self::new(&[], wire_key)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for WireKeyRef<'a> {
    #[inline]
    fn from(wire_key: &'a [u8; N]) -> Self {
        Self::new(&[], wire_key)
    }
}

/// Sizes; not the key.
impl fmt::Debug for WireKeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireKeyRef").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The full name of an entry. Keys of up to about 150 bytes need no allocation.
#[derive(Clone)]
pub struct WireKey {
    bytes: SmallVec<[u8; INLINE_BYTES]>,
    /// What a shortened form keeps; `None`: the key is never shortened.
    prefix_len: Option<usize>,
}

impl WireKey {
    /// A key that others look up too: stored as it is, or not at all. It must not begin with `ck:`.
    pub(crate) fn verbatim(key: &[u8]) -> Self {
        Self { bytes: SmallVec::from_slice(key), prefix_len: None }
    }

    /// A key that the engine keeps something under for itself: `ck::<name>`. No namespace is empty, so no caller's key meets
    /// it, and clearing a namespace does not touch it.
    pub(crate) fn reserved(name: &str) -> Self {
        let mut bytes = SmallVec::from_slice(RESERVED);
        bytes.extend_from_slice(name.as_bytes());
        Self { bytes, prefix_len: Some(RESERVED.len()) }
    }

    /// The wire key that an entry of ours says it has. `None` if nobody could have given it one like that.
    pub fn parse(wire_key: &[u8]) -> Option<Self> {
        let (begins, is_reserved) = match wire_key.strip_prefix(RESERVED) {
            Some(_) => (RESERVED.len(), true),
            None => (wire_key.starts_with(PREFIX).then_some(PREFIX.len())?, false),
        };
        let colon = wire_key[begins..].iter().position(|byte| *byte == b':');
        let prefix_len = match colon {
            Some(colon) if !is_reserved || epoch_of(wire_key).is_some() => begins + colon + 1,
            _ if is_reserved => begins,
            _ => return None,
        };
        let named = begins == prefix_len
            || std::str::from_utf8(&wire_key[begins..prefix_len - 1]).is_ok_and(|name| Namespace::new(name).is_ok());
        (named && wire_key.len() > prefix_len)
            .then(|| Self { bytes: SmallVec::from_slice(wire_key), prefix_len: Some(prefix_len) })
    }

    /// A key as a store has it: given as it is.
    pub(crate) fn of_store(key: &[u8]) -> Self {
        Self { bytes: SmallVec::from_slice(key), prefix_len: None }
    }

    /// A key as one store has it, for another store, which may need it shortened again.
    pub(crate) fn again(key: &[u8]) -> Self {
        let namespace = key.strip_prefix(PREFIX).and_then(|rest| rest.iter().position(|byte| *byte == b':'));
        Self { bytes: SmallVec::from_slice(key), prefix_len: namespace.map(|len| PREFIX.len() + len + 1) }
    }

    /// The whole wire key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a store with these limits is given: the wire key, or its shortened form.
    pub fn for_store(&self, limits: &Limits) -> Result<Cow<'_, [u8]>, KeyError> {
        match self.shortened(limits) {
            None => Ok(Cow::Borrowed(&self.bytes)),
            Some(short) => short.map(Cow::Owned),
        }
    }

    /// The shortened form, if a store with these limits is given one.
    pub(crate) fn shortened(&self, limits: &Limits) -> Option<Result<Vec<u8>, KeyError>> {
        let Some(prefix_len) = self.prefix_len else {
            let refused = KeyError::Verbatim { len: self.bytes.len(), max: limits.max_key };
            return (!limits.takes_key(&self.bytes)).then_some(Err(refused));
        };
        // A caller's key that looks like a shortened one is shortened too, so that the two can never meet.
        let looks_shortened = self.bytes.get(prefix_len) == Some(&b'#');
        if limits.takes_key(&self.bytes) && !looks_shortened {
            return None;
        }
        let digest = Blake2b::<U32>::digest(&self.bytes);
        let mut short = Vec::with_capacity(prefix_len + 65);
        short.extend_from_slice(&self.bytes[..prefix_len]);
        short.push(b'#');
        for byte in digest {
            short.extend(format!("{byte:02x}").bytes());
        }
        if !limits.takes_key(&short) {
            return Some(Err(KeyError::StoreLimit { max: limits.max_key, needed: short.len() }));
        }
        Some(Ok(short))
    }
}

/// Shows the digest, never the key.
impl fmt::Debug for WireKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Key::from_wire(&self.bytes), f)
    }
}

/// The caller's key inside a wire key of this namespace, for listings; its hash, where keys are hashed.
pub fn strip<'a>(namespace: &Namespace, wire_key: &'a [u8]) -> Option<&'a [u8]> {
    wire_key.strip_prefix(namespace.prefix())
}

#[cfg(test)]
mod tests {
    use cachekit_plugin::KeyBytes;
    use proptest::prelude::*;

    use super::*;

    const MEMCACHED: Limits = Limits::new(250, 1 << 20).with_key_bytes(KeyBytes::Printable);
    const ANY: Limits = Limits::new(65_536, 1 << 20);

    fn namespace(name: &str) -> Namespace {
        Namespace::new(name).unwrap()
    }

    #[test]
    fn a_wire_key_is_namespace_and_key() {
        let wire = namespace("users").wire(b"42").unwrap();
        assert_eq!(wire.as_bytes(), b"ck:users:42");
        assert_eq!(&*wire.for_store(&MEMCACHED).unwrap(), b"ck:users:42");
    }

    #[test]
    fn what_a_store_cannot_take_is_shortened() {
        for key in [&[b'x'; 300][..], b"with space", b"line\r\nbreak", b"\0", "zażółć".as_bytes()] {
            let wire = namespace("n").wire(key).unwrap();
            let short = wire.for_store(&MEMCACHED).unwrap();
            assert!(short.starts_with(b"ck:n:#") && short.len() == 70 && MEMCACHED.takes_key(&short));
        }
        let wire = namespace("n").wire(b"a b").unwrap();
        assert!(matches!(wire.for_store(&ANY).unwrap(), Cow::Borrowed(b"ck:n:a b")));
    }

    #[test]
    fn a_key_that_looks_shortened_meets_no_shortened_one() {
        let long = namespace("n").wire(&[b'x'; 300]).unwrap();
        let short = long.for_store(&MEMCACHED).unwrap();
        let forged = namespace("n").wire(&short[5..]).unwrap();
        assert_eq!(forged.as_bytes(), &*short);
        for limits in [MEMCACHED, ANY] {
            assert_ne!(forged.for_store(&limits).unwrap(), short);
        }
    }

    #[test]
    fn unusable_keys_and_namespaces_are_refused() {
        assert_eq!(namespace("n").wire(b"").unwrap_err(), KeyError::Empty);
        assert!(matches!(namespace("n").wire(&vec![b'x'; MAX_KEY_BYTES + 1]), Err(KeyError::TooLong { .. })));
        for name in ["", "a:b", "a b", "a\n", "ü", &"x".repeat(129)] {
            assert!(Namespace::new(name).is_err(), "{name:?}");
        }
        let tiny = Limits::new(20, 1 << 20);
        assert!(matches!(namespace("n").wire(&[b'x'; 40]).unwrap().for_store(&tiny), Err(KeyError::StoreLimit { .. })));
    }

    #[test]
    fn epochs_are_told_from_each_other_and_from_keys() {
        let users = namespace("users");
        let store_key = |wire: WireKey| wire.for_store(&MEMCACHED).unwrap().into_owned();
        assert_eq!(epoch_of(&store_key(users.own_epoch())), Some(EpochOf::Namespace(users.clone())));
        for tag in [&b"t"[..], b":n", b"x:n", b"n", b"#", b"with space", &[0xff; 256]] {
            assert_eq!(epoch_of(&store_key(users.tag_epoch(tag))), Some(EpochOf::Tag), "{tag:?}");
        }
        let others = [&b"ck::"[..], b"ck::n", b"ck::zstd/1", b"ck::users:x", b"ck:::n"];
        assert!(others.iter().all(|key| epoch_of(key).is_none()));
        for key in [&b":n"[..], b":users:n", b":users:tx", b"n"] {
            assert_eq!(epoch_of(&store_key(users.wire(key).unwrap())), None, "{key:?}");
        }
    }

    #[test]
    fn the_place_of_the_cut_makes_no_key_another() {
        let key = WireKeyRef::new(b"ck:n:", b"key");
        assert!(key.is(b"ck:n:key"));
        for other in [&b""[..], b"ck:n", b"ck:n:", b"ck:n:ke", b"ck:n:keyy", b"ck:m:key", b"key"] {
            assert!(!key.is(other));
        }
    }

    #[test]
    fn a_wire_key_that_was_read_back_is_named_as_the_one_that_was_made() {
        let users = namespace("users");
        let long = [b'x'; 300];
        let made = [
            users.wire(b"42").unwrap(),
            users.wire(&long).unwrap(),
            users.wire(b"#42").unwrap(),
            users.wire(b":x").unwrap(),
            users.own_epoch(),
            users.tag_epoch(b"t"),
            users.tag_epoch(&[0; 200]),
            WireKey::reserved("dictionary:12345678"),
        ];
        for wire in made {
            let read = WireKey::parse(wire.as_bytes()).unwrap();
            assert_eq!(read.for_store(&MEMCACHED).unwrap(), wire.for_store(&MEMCACHED).unwrap(), "{wire:?}");
        }
        for wire in [&b""[..], b"ck", b"ck:", b"ck:x", b"ck:x:", b"ck:a b:k", b"python:k", b"ck::"] {
            assert!(WireKey::parse(wire).is_none());
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        assert!(!format!("{:?}", namespace("n").wire(b"alice").unwrap()).contains("alice"));
    }

    proptest! {
        /// The promise of this module, over any two namespaces and keys.
        #[test]
        fn different_names_never_share_a_store_key(
            a in ("[a-z#.]{1,3}", prop::collection::vec(any::<u8>(), 1..6)),
            b in ("[a-z#.]{1,3}", prop::collection::vec(any::<u8>(), 1..6)),
        ) {
            prop_assume!(a != b);
            let wire = |(name, key): &(String, Vec<u8>)| namespace(name).wire(key).unwrap();
            let (a, b) = (wire(&a), wire(&b));
            prop_assert_ne!(a.as_bytes(), b.as_bytes());
            for limits in [MEMCACHED, ANY] {
                prop_assert_ne!(a.for_store(&limits).unwrap(), b.for_store(&limits).unwrap());
            }
        }

        /// No key of a caller is where an epoch is, nor one epoch where another is.
        #[test]
        fn no_key_is_an_epoch(
            key in ("[a-z#.]{1,3}", prop_oneof![prop::collection::vec(any::<u8>(), 1..6), Just(b":a:n".to_vec())]),
            a in ("[a-z#.]{1,3}", prop::collection::vec(any::<u8>(), 1..6)),
            b in ("[a-z#.]{1,3}", prop::collection::vec(any::<u8>(), 1..6)),
        ) {
            let key = namespace(&key.0).wire(&key.1).unwrap();
            let (own, tag, other) =
                (namespace(&a.0).own_epoch(), namespace(&a.0).tag_epoch(&a.1), namespace(&b.0).tag_epoch(&b.1));
            for limits in [MEMCACHED, ANY] {
                let names = [&key, &own, &tag, &other].map(|wire| wire.for_store(&limits).unwrap());
                prop_assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
                prop_assert_eq!(a == b, names[2] == names[3]);
            }
        }
    }
}
