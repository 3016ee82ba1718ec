//! Keys that try to be commands.

use cachekit_plugin::{Backend, Batch, Cas, Expiry, Key, Kind, Locks, SetItem, Ttl};
use cachekit_test_servers::memcached::Memcached;

use super::values::Dice;
use super::{cx, get, on, set};

const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\xff\xfe",
    b"\xc2\x85",
    b"canary",
    b"k",
    b"mg canary v\r\n",
    b"md canary\r\n",
    b"ms canary 3 T0\r\nbad\r\n",
    b"set canary 0 0 3\r\nbad\r\n",
    b"flush_all\r\n",
    b"shutdown\r\n",
    b"quit\r\n",
    b" T0 v k",
    b" O1 q",
    b"caf\xc3\xa9",
    b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_hostile_keys_inject_nothing_and_alias_nothing() {
    let server = Memcached::start();
    let backend = on(server.addr());
    set(&backend, "canary", "alive").await.unwrap();
    let items = || -> u64 {
        let stats = server.exchange("stats\r\n", "END\r\n");
        let line = stats.lines().find_map(|line| line.strip_prefix("STAT curr_items ")).unwrap();
        line.trim().parse().unwrap()
    };
    assert_eq!(items(), 1);
    let mut dice = Dice(8);
    let (mut refused, mut taken) = (0, Vec::new());
    for number in 0..1000_u64 {
        let mut key = Vec::new();
        for _ in 0..1 + dice.below(4) {
            key.extend_from_slice(PIECES[dice.below(PIECES.len() as u64) as usize]);
        }
        match number % 10 {
            0 => key.resize(10_240, b'x'),
            1 => key.resize(251, b'x'),
            2 => key.clear(),
            _ => {}
        }
        let wire = Key::from_wire(&key);
        if backend.limits().takes_key(&key) {
            if key == b"canary" || taken.contains(&key) {
                continue;
            }
            backend.set(wire, key.clone().into(), Ttl::Never, &cx()).await.unwrap();
            taken.push(key);
            continue;
        }
        refused += 1;
        let (life, item) = (Ttl::Never, SetItem { key: wire, value: "bad".into(), ttl: Ttl::Never });
        let errors = [
            backend.get(wire, &cx()).await.err(),
            backend.set(wire, "bad".into(), life, &cx()).await.err(),
            backend.delete(wire, &cx()).await.err(),
            backend.exists(wire, &cx()).await.err(),
            Expiry::ttl(&backend, wire, &cx()).await.err(),
            Expiry::touch(&backend, wire, life, &cx()).await.err(),
            Locks::lock(&backend, wire, b"t", 1000, &cx()).await.err(),
            Locks::unlock(&backend, wire, b"t", &cx()).await.err(),
            Cas::get_version(&backend, wire, &cx()).await.err(),
            Cas::set_if(&backend, wire, "bad".into(), life, None, &cx()).await.err(),
            Batch::get_many(&backend, &[wire], &cx()).await.unwrap().remove(0).err(),
            Batch::set_many(&backend, &[item], &cx()).await.unwrap().remove(0).err(),
            Batch::delete_many(&backend, &[wire], &cx()).await.unwrap().remove(0).err(),
        ];
        for error in errors {
            assert_eq!(error.expect("a hostile key is refused").kind(), Kind::TooLarge, "{}", key.escape_ascii());
        }
    }
    println!("{refused} hostile keys refused by 13 operations each, {} harmless ones stored", taken.len());
    assert!(refused > 800, "{refused}");
    assert_eq!(get(&backend, "canary").await.unwrap().as_deref(), Some(&b"alive"[..]));
    assert_eq!(items(), 1 + taken.len() as u64, "nothing was stored but what was meant");
    for key in &taken {
        assert_eq!(backend.get(Key::from_wire(key), &cx()).await.unwrap().as_deref(), Some(&key[..]));
    }
}

/// The control of the test above: these bytes are dangerous, and it is our check that keeps them out.
#[test]
fn without_the_check_such_a_key_would_reach_the_canary() {
    let server = Memcached::start();
    assert_eq!(server.exchange("ms canary 5 T0\r\nalive\r\n", "\r\n"), "HD\r\n");
    server.exchange("mg x\r\nmd canary\r\n v O1\r\nmn\r\n", "MN\r\n");
    assert_eq!(server.exchange("mg canary v\r\n", "\r\n"), "EN\r\n");
}

/// Values are bytes: whatever stands in them, they come back and nothing else happens.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_look_like_protocol_are_values() {
    let server = Memcached::start();
    let backend = on(server.addr());
    set(&backend, "canary", "alive").await.unwrap();
    for (number, value) in
        [&b"\r\n"[..], b"\r\nEN\r\n", b"VA 3 kcanary O1\r\nbad\r\n", b"\r\nmd canary\r\n", b"END\r\n", b"\0"]
            .into_iter()
            .enumerate()
    {
        let key = format!("k{number}");
        set(&backend, &key, value).await.unwrap();
        assert_eq!(get(&backend, &key).await.unwrap().as_deref(), Some(value));
    }
    assert_eq!(get(&backend, "canary").await.unwrap().as_deref(), Some(&b"alive"[..]));
}
