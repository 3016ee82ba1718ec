//! Which server holds a key: rendezvous hashing, number for number as the family's Python client does it.
//!
//! A fleet whose members place a key differently has two caches, and a deletion on one is not seen on the other. So the
//! score of a server is MurmurHash3 x86_32 with seed 0 over `{node}-{wire key}`, the highest score wins, and between equal
//! scores the greatest node text. Servers that are dead leave the list; all other keys stay where they are.

use memcache::exp::Router;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `host:port`; the host as it was written, brackets of an IPv6 address included.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(String),
}

impl Address {
    /// Reads `host:port` or an absolute path.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "takes \"host:port\" or the absolute path of a unix socket";
        if text.starts_with('/') {
            // The system allows 107 bytes and a NUL.
            let fits = text.len() <= 107 && !text.contains('\0');
            return if fits {
                Ok(Self::Unix(text.into()))
            } else {
                Err("a socket path takes at most 107 bytes".into())
            };
        }
        // Split at the last colon, as the family does.
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        if host.is_empty() || host.len() > 255 || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(FORM.into());
        }
        // `parse` alone would take a plus sign.
        match port.parse() {
            Ok(port @ 1..) if text.ends_with(|last: char| last.is_ascii_digit()) && !text.contains('+') => {
                Ok(Self::Tcp { host: host.into(), port })
            }
            _ => Err("a port takes 1 to 65535".into()),
        }
    }

    /// The text that takes part in the placement.
    pub(crate) fn node(&self) -> String {
        match self {
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(path) => path.clone(),
        }
    }
}

/// The family's placement: also a [`Router`], so that a client of the crate `memcache` finds what this backend stored.
///
/// ```
/// use cachekit_backend_memcached::Rendezvous;
/// use memcache::exp::Router;
/// let servers = ["cache-a:11211", "cache-b:11211", "cache-c:11211"].map(String::from);
/// assert_eq!(Rendezvous.route(b"7765971a/e3a0b74d?x=%59", &servers), 2);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Rendezvous;

impl Rendezvous {
    /// The index of the node that holds `key` among those that `is_candidate` accepts; `None` if it accepts none.
    pub(crate) fn place(key: &[u8], nodes: &[String], is_candidate: impl Fn(usize) -> bool) -> Option<usize> {
        Self::place_by(murmur3_x86_32, key, nodes, is_candidate)
    }

    fn place_by(
        score_of: impl Fn(&[u8]) -> u32,
        key: &[u8],
        nodes: &[String],
        is_candidate: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if nodes.len() == 1 {
            return is_candidate(0).then_some(0);
        }
        let mut best: Option<(u32, &str, usize)> = None;
        let mut scored = Vec::with_capacity(320);
        for (index, node) in nodes.iter().enumerate().filter(|(index, _)| is_candidate(*index)) {
            scored.clear();
            scored.extend_from_slice(node.as_bytes());
            scored.push(b'-');
            scored.extend_from_slice(key);
            let score = score_of(&scored);
            if best.is_none_or(|(highest, greatest, _)| (score, node.as_str()) > (highest, greatest)) {
                best = Some((score, node, index));
            }
        }
        best.map(|(_, _, index)| index)
    }
}

impl Router for Rendezvous {
    fn route(&self, key: &[u8], servers: &[String]) -> usize {
        Self::place(key, servers, |_| true).unwrap_or(0)
    }
}

/// MurmurHash3 x86_32 with seed 0.
pub fn murmur3_x86_32(data: &[u8]) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let scramble = |block: u32| block.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let (blocks, tail) = data.as_chunks::<4>();
    let mut hash = 0_u32;
    for block in blocks {
        hash = (hash ^ scramble(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash ^= scramble(u32::from_le_bytes(last));
    }
    hash ^= data.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> serde_json::Value {
        serde_json::from_str(include_str!("../tests/vectors/memcached.json")).unwrap()
    }

    #[test]
    fn every_recorded_hash_is_reproduced() {
        let recorded = recorded();
        let hashes = recorded["murmur3"].as_array().unwrap();
        assert_eq!(hashes.len(), 6);
        for hash in hashes {
            let data = hash["data"].as_str().unwrap();
            assert_eq!(u64::from(murmur3_x86_32(data.as_bytes())), hash["murmur3_x86_32_seed0"], "{data:?}");
        }
        assert_eq!(murmur3_x86_32(b"6666"), 1_361_238_019);
    }

    #[test]
    fn every_recorded_key_is_placed_where_the_family_places_it() {
        let recorded = recorded();
        let selections = recorded["selection"].as_array().unwrap();
        assert_eq!(selections.len(), 260);
        for selection in selections {
            let servers = match &selection["servers"] {
                serde_json::Value::String(_) => &recorded["live_servers"],
                list => list,
            };
            let named = |server: &serde_json::Value| Address::parse(server.as_str().unwrap()).unwrap().node();
            let nodes: Vec<String> = servers.as_array().unwrap().iter().map(named).collect();
            let key = selection["key"].as_str().unwrap();
            for node in &nodes {
                let score = murmur3_x86_32(format!("{node}-{key}").as_bytes());
                assert_eq!(selection["scores"][node], u64::from(score), "{node}");
            }
            let chosen = Rendezvous.route(key.as_bytes(), &nodes);
            assert_eq!(nodes[chosen], selection["node"].as_str().unwrap(), "{key}");
        }
    }

    #[test]
    fn equal_scores_go_to_the_greatest_text() {
        let nodes = ["b:1", "c:1", "a:1"].map(String::from);
        assert_eq!(Rendezvous::place_by(|_| 7, b"k", &nodes, |_| true), Some(1));
        assert_eq!(Rendezvous::place_by(|_| 7, b"k", &nodes, |index| index != 1), Some(0));
        let by_text = |scored: &[u8]| u32::from(scored[0] == b'a');
        assert_eq!(Rendezvous::place_by(by_text, b"k", &nodes, |_| true), Some(2));
    }

    #[test]
    fn a_dead_server_moves_its_own_keys_and_no_others() {
        let nodes: Vec<String> = (0..5).map(|number| format!("10.0.0.{number}:11211")).collect();
        let mut moved = 0;
        for number in 0..1000 {
            let key = format!("key{number}");
            let before = Rendezvous::place(key.as_bytes(), &nodes, |_| true).unwrap();
            let after = Rendezvous::place(key.as_bytes(), &nodes, |index| index != 2).unwrap();
            assert_ne!(after, 2);
            if before == 2 {
                moved += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        assert!((100..300).contains(&moved), "{moved}");
        assert_eq!(Rendezvous::place(b"k", &nodes, |_| false), None);
    }

    #[test]
    fn ports_are_reprinted_in_decimal() {
        assert_eq!(Address::parse("h:011211").unwrap().node(), "h:11211");
        assert_eq!(Address::parse("[::1]:1").unwrap().node(), "[::1]:1");
        for wrong in ["h", "h:", "h:-1", "h:+1", ":1", "h:1x", "h:99999999999", ""] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
