//! The commands, word for word.

use redis::{Cmd, cmd};

/// Room for a command's name and numbers, so that building it takes memory once.
const WORDS: usize = 48;

fn command(name: &str, arguments: usize, bytes: usize) -> Cmd {
    let mut command = Cmd::with_capacity(arguments, bytes + WORDS);
    command.arg(name);
    command
}

/// A command that takes one key and nothing else.
pub(crate) fn of_key(name: &str, key: &[u8]) -> Cmd {
    let mut command = command(name, 2, key.len());
    command.arg(key);
    command
}

/// A command that takes any number of keys.
pub(crate) fn of_keys<K: AsRef<[u8]>>(name: &str, keys: &[K]) -> Cmd {
    let bytes = keys.iter().map(|key| key.as_ref().len()).sum();
    let mut command = command(name, keys.len() + 1, bytes);
    for key in keys {
        command.arg(key.as_ref());
    }
    command
}

/// `SET`, with a life in milliseconds if it has one.
pub(crate) fn set(key: &[u8], value: &[u8], life_ms: Option<u64>) -> Cmd {
    let mut command = command("SET", 5, key.len() + value.len());
    command.arg(key).arg(value);
    if let Some(life_ms) = life_ms {
        command.arg("PX").arg(life_ms);
    }
    command
}

/// `SET`, if there is nothing under the key.
pub(crate) fn set_absent(key: &[u8], value: &[u8], life_ms: Option<u64>) -> Cmd {
    let mut command = set(key, value, life_ms);
    command.arg("NX");
    command
}

/// A new life for a key.
pub(crate) fn renew(key: &[u8], life_ms: Option<u64>) -> Cmd {
    match life_ms {
        Some(life_ms) => {
            let mut command = command("PEXPIRE", 3, key.len());
            command.arg(key).arg(life_ms);
            command
        }
        None => of_key("PERSIST", key),
    }
}

/// A step of an enumeration of the strings whose key matches `pattern`.
pub(crate) fn scan(cursor: u64, pattern: &[u8], count: usize, only_strings: bool) -> Cmd {
    let mut command = cmd("SCAN");
    command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
    if only_strings {
        command.arg("TYPE").arg("string");
    }
    command
}

/// The pattern of all keys that begin with `prefix`, whatever stands in it.
pub(crate) fn pattern(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 8);
    for byte in prefix {
        if b"*?[]^-\\".contains(byte) {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern.push(b'*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(command: &Cmd) -> String {
        String::from_utf8_lossy(&command.get_packed_command()).replace("\r\n", " ")
    }

    #[test]
    fn commands_are_what_the_family_sends() {
        assert_eq!(text(&of_key("GET", b"k")), "*2 $3 GET $1 k ");
        assert_eq!(text(&set(b"k", b"v", None)), "*3 $3 SET $1 k $1 v ");
        assert_eq!(text(&set(b"k", b"v", Some(60_000))), "*5 $3 SET $1 k $1 v $2 PX $5 60000 ");
        assert_eq!(text(&set_absent(b"k", b"t", Some(9))), "*6 $3 SET $1 k $1 t $2 PX $1 9 $2 NX ");
        assert_eq!(text(&of_keys("UNLINK", &[b"a", b"b"])), "*3 $6 UNLINK $1 a $1 b ");
        assert_eq!(text(&renew(b"k", None)), "*2 $7 PERSIST $1 k ");
    }

    #[test]
    fn a_prefix_means_itself() {
        assert_eq!(pattern(b"a*[b]?\\"), b"a\\*\\[b\\]\\?\\\\*");
        assert_eq!(pattern(b""), b"*");
    }
}
