//! Epochs: a random number per tag, and per namespace where the store can neither clear nor list, that entries carry. To
//! invalidate is to change the number, however many entries had it.
//!
//! An epoch is an entry of its own, under a key that no caller can have (`ck::<namespace>:…`, because a namespace is never
//! empty), in the native envelope: checked, and sealed where the cache seals. So it is kept in L1 for as long as any entry,
//! changes by others evict it from there, and a slow read of it never undoes a newer one (`mod.rs`). One that is missing is a
//! new one: a store that drops it makes entries miss, and never brings one back.
//!
//! Numbers come from the operating system: two processes, or a child after `fork()`, that drew the same one would take each
//! other's outdated entries for current.

use bytes::Bytes;

use crate::codec::{Codec, EncodeError, Meta, NewEntry, Refusal};
use crate::key::WireKey;

/// The number of an epoch. Compared for equality only; 0 stands for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u64);

impl Number {
    /// One that nobody had before. `None`: the operating system gave no random bytes.
    pub(crate) fn fresh() -> Option<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).ok()?;
        Some(Self(u64::from_le_bytes(bytes).max(1)))
    }

    /// The entry that holds it. It has no end of its own and no age: a clock that is wrong must not hide an invalidation.
    pub(crate) fn stored(self, codec: &Codec, wire: &WireKey) -> Result<Bytes, EncodeError> {
        let entry = NewEntry { wire_key: wire.as_bytes(), meta: Meta::default(), tags: &[] };
        codec.encode_bytes(&entry, &self.0.to_le_bytes())
    }

    /// What an entry under the key of an epoch holds.
    pub(crate) fn read(codec: &Codec, wire: &WireKey, stored: &Bytes) -> Result<Self, Refusal> {
        let bytes = codec.open(stored, wire.as_bytes(), u64::MAX)?.bytes()?;
        <[u8; 8]>::try_from(&bytes[..]).map(|bytes| Self(u64::from_le_bytes(bytes))).map_err(|_| Refusal::Corrupt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Namespace;

    #[test]
    fn an_epoch_is_read_back_under_its_own_key_and_no_other() {
        let codec = Codec::default();
        let namespace = Namespace::new("users").unwrap();
        let (team, other) = (namespace.tag_epoch(b"team:7"), namespace.tag_epoch(b"team:8"));
        let number = Number::fresh().unwrap();
        let stored = number.stored(&codec, &team).unwrap();
        assert_eq!(Number::read(&codec, &team, &stored), Ok(number));
        assert_eq!(Number::read(&codec, &other, &stored), Err(Refusal::WrongKey));
        assert_eq!(Number::read(&codec, &team, &stored.slice(..stored.len() - 1)), Err(Refusal::Truncated));
    }

    #[test]
    fn a_value_is_no_epoch_wherever_it_lies() {
        let codec = Codec::default();
        let wire = Namespace::new("users").unwrap().tag_epoch(b"t");
        let entry = NewEntry { wire_key: wire.as_bytes(), meta: Meta::default(), tags: &[] };
        for bytes in [&b""[..], b"1234567", b"123456789"] {
            let stored = codec.encode_bytes(&entry, bytes).unwrap();
            assert_eq!(Number::read(&codec, &wire, &stored), Err(Refusal::Corrupt));
        }
        let typed = codec.encode(&entry, &7_u64).unwrap();
        assert!(Number::read(&codec, &wire, &typed).is_err());
    }

    #[test]
    fn numbers_do_not_repeat_and_are_never_none() {
        let drawn: std::collections::HashSet<u64> = (0..1000).map(|_| Number::fresh().unwrap().0).collect();
        assert!(drawn.len() == 1000 && !drawn.contains(&0));
    }
}
