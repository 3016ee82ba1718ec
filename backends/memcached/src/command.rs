//! One request in the bytes of the meta protocol.
//!
//! The lines are written by the encoder of the crate `memcache`. Two things are ours: the token `O`, which is only known when
//! the request gets its place on a connection, and the data block of a write, which is handed on as it is instead of being
//! copied into the command.

use bytes::Bytes;
use cachekit_plugin::Ttl;
use memcache::exp::{MetaCommand, MetaOp};

use crate::error::Failure;
use crate::keys::WireKey;
use crate::life;

/// Which answers a request can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expects {
    /// A value that comes with its key, or none.
    Value,
    /// Found or not.
    Presence,
    /// Stored or not.
    Stored,
    /// Deleted or not.
    Deleted,
}

/// A request that can be sent, and sent again.
pub(crate) struct Command<'a> {
    pub(crate) key: WireKey<'a>,
    pub(crate) expects: Expects,
    /// The line, without token and line break.
    line: Vec<u8>,
    value: Option<Bytes>,
}

/// What a condition on a write compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Absent,
    /// The server's number of the write that is to be replaced.
    Unchanged(u64),
}

impl<'a> Command<'a> {
    fn new(key: WireKey<'a>, expects: Expects, command: MetaCommand, value: Option<Bytes>) -> Result<Self, Failure> {
        // It checks the key once more, by its own rule.
        let mut line = command.encode().map_err(|_| Failure::Key)?;
        line.truncate(line.len().saturating_sub(2));
        Ok(Self { key, expects, line, value })
    }

    /// The value. `k`: the key comes back and is compared, so that no proxy and no defect can hand over another's value.
    pub(crate) fn get(key: WireKey<'a>) -> Result<Self, Failure> {
        let command = MetaCommand::new(MetaOp::Get, key.as_bytes()).flag("k").flag("v");
        Self::new(key, Expects::Value, command, None)
    }

    /// The value and the number of its write.
    pub(crate) fn get_version(key: WireKey<'a>) -> Result<Self, Failure> {
        let command = MetaCommand::new(MetaOp::Get, key.as_bytes()).flag("k").flag("c").flag("v");
        Self::new(key, Expects::Value, command, None)
    }

    /// Whether there is something.
    pub(crate) fn exists(key: WireKey<'a>) -> Result<Self, Failure> {
        let command = MetaCommand::new(MetaOp::Get, key.as_bytes()).flag("k");
        Self::new(key, Expects::Presence, command, None)
    }

    /// The time left.
    pub(crate) fn ttl(key: WireKey<'a>) -> Result<Self, Failure> {
        let command = MetaCommand::new(MetaOp::Get, key.as_bytes()).flag("k").flag("t");
        Self::new(key, Expects::Presence, command, None)
    }

    /// A new life.
    pub(crate) fn touch(key: WireKey<'a>, ttl: Ttl) -> Result<Self, Failure> {
        let life = format!("T{}", life::seconds(ttl));
        let command = MetaCommand::new(MetaOp::Get, key.as_bytes()).flag("k").flag(life);
        Self::new(key, Expects::Presence, command, None)
    }

    /// A write. The flags are 0 and the bytes are raw, as the family stores them.
    pub(crate) fn set(key: WireKey<'a>, value: Bytes, ttl: Ttl, when: When) -> Result<Self, Failure> {
        // The length is the first token behind the key, and the encoder would take the value along with it.
        let command = MetaCommand::new(MetaOp::Set, key.as_bytes())
            .flag(value.len().to_string())
            .flag("F0")
            .flag(format!("T{}", life::seconds(ttl)));
        let command = match when {
            When::Always => command,
            When::Absent => command.flag("ME"),
            When::Unchanged(cas) => command.flag(format!("C{cas}")),
        };
        Self::new(key, Expects::Stored, command, Some(value))
    }

    /// A removal.
    pub(crate) fn delete(key: WireKey<'a>, when: When) -> Result<Self, Failure> {
        let command = MetaCommand::new(MetaOp::Delete, key.as_bytes());
        let command = match when {
            When::Unchanged(cas) => command.flag(format!("C{cas}")),
            When::Always | When::Absent => command,
        };
        Self::new(key, Expects::Deleted, command, None)
    }

    /// Bytes on the wire, the token not counted.
    pub(crate) fn len(&self) -> usize {
        self.line.len() + self.value.as_ref().map_or(0, Bytes::len)
    }

    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }

    pub(crate) fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// Whether doing it twice, or late, can be noticed. A touch can: it renews a life that a later write gave.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.expects, Expects::Stored | Expects::Deleted) || self.line.windows(2).any(|at| at == b" T")
    }
}

#[cfg(test)]
mod tests {
    use cachekit_plugin::Key;

    use super::*;

    fn key() -> WireKey<'static> {
        WireKey::of_entry("", Key::from_wire(b"users:1")).ok().unwrap()
    }

    fn line(command: Result<Command<'_>, Failure>) -> String {
        String::from_utf8(command.ok().unwrap().line).unwrap()
    }

    #[test]
    fn requests_are_the_bytes_of_the_meta_protocol() {
        let minute = Ttl::from_ms(60_000).unwrap();
        let value = Bytes::from_static(b"\0\xffv");
        assert_eq!(line(Command::get(key())), "mg users:1 k v");
        assert_eq!(line(Command::get_version(key())), "mg users:1 k c v");
        assert_eq!(line(Command::exists(key())), "mg users:1 k");
        assert_eq!(line(Command::ttl(key())), "mg users:1 k t");
        assert_eq!(line(Command::touch(key(), minute)), "mg users:1 k T60");
        assert_eq!(line(Command::set(key(), value.clone(), minute, When::Always)), "ms users:1 3 F0 T60");
        assert_eq!(line(Command::set(key(), value.clone(), Ttl::Never, When::Absent)), "ms users:1 3 F0 T0 ME");
        assert_eq!(line(Command::set(key(), value, minute, When::Unchanged(7))), "ms users:1 3 F0 T60 C7");
        assert_eq!(line(Command::delete(key(), When::Always)), "md users:1");
        assert_eq!(line(Command::delete(key(), When::Unchanged(7))), "md users:1 C7");
    }

    #[test]
    fn reads_and_writes_are_told_apart() {
        let writes = |command: Result<Command<'_>, Failure>| command.ok().unwrap().writes();
        assert!(!writes(Command::get(key())) && !writes(Command::ttl(key())) && !writes(Command::exists(key())));
        assert!(writes(Command::touch(key(), Ttl::Never)) && writes(Command::delete(key(), When::Always)));
        assert!(writes(Command::set(key(), Bytes::new(), Ttl::Never, When::Always)));
    }
}
