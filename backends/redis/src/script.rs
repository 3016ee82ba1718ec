//! What the server does in one step because two would be a race: scripts, sent by digest and in full only once.

use cachekit_plugin::{Cx, Version};
use redis::{Cmd, ServerErrorKind, Value, cmd};

use crate::client::Client;
use crate::error::Trouble;
use crate::node::Access;

/// A script of one key.
pub(crate) struct Script {
    text: &'static str,
    digest: String,
}

/// The scripts of a backend.
pub(crate) struct Scripts {
    /// Removes a lease if it is held under the token in the first argument: the family's compare-and-delete.
    pub(crate) release: Script,
    /// Stores the second argument if the value that is there has the version in the first one; the third is its life.
    pub(crate) replace: Script,
}

const RELEASE: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

const REPLACE: &str = "local found = redis.call('get', KEYS[1]) \
     if not found or string.sub(redis.sha1hex(found), 1, 32) ~= ARGV[1] then return 0 end \
     if ARGV[3] == '' then redis.call('set', KEYS[1], ARGV[2]) \
     else redis.call('set', KEYS[1], ARGV[2], 'px', ARGV[3]) end \
     return 1";

impl Scripts {
    pub(crate) fn new() -> Self {
        Self { release: Script::new(RELEASE), replace: Script::new(REPLACE) }
    }
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, digest: sha1_smol::Sha1::from(text).hexdigest() }
    }

    /// Runs the script on `key`.
    pub(crate) async fn run(
        &self,
        client: &Client,
        key: &[u8],
        arguments: &[&[u8]],
        cx: &Cx<'_>,
    ) -> Result<Value, Trouble> {
        let by_digest = call("EVALSHA", self.digest.as_bytes(), key, arguments);
        match client.ask(key, &by_digest, Access::Write, cx).await {
            // It was not run: a server that was restarted has forgotten it.
            Err(trouble) if trouble.server() == Some(ServerErrorKind::NoScript) => {
                client.ask(key, &call("EVAL", self.text.as_bytes(), key, arguments), Access::Write, cx).await
            }
            answer => answer,
        }
    }
}

fn call(name: &str, script: &[u8], key: &[u8], arguments: &[&[u8]]) -> Cmd {
    let mut command = cmd(name);
    command.arg(script).arg(1).arg(key);
    for argument in arguments {
        command.arg(*argument);
    }
    command
}

/// The version of a value: the first 128 bits of its SHA-1, which is the digest that a script can make.
///
/// A digest says "nobody changed it", not "nobody wrote it": Redis keeps no number of a write. Whoever can make two values
/// of one digest can only replace a value of his own.
pub(crate) fn version(value: &[u8]) -> Version {
    let digest = sha1_smol::Sha1::from(value).digest().bytes();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    Version(u128::from_be_bytes(first))
}

/// The version as the script compares it.
pub(crate) fn version_text(version: Version) -> String {
    format!("{:032x}", version.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_front_of_the_digest_that_scripts_make() {
        // SHA-1 of "abc" (FIPS 180): a9993e36 4706816a ba3e2571 7850c26c 9cd0d89d.
        assert_eq!(version_text(version(b"abc")), "a9993e364706816aba3e25717850c26c");
    }
}
