//! Every kind of server starts, answers and does what tests need of it.

use std::net::TcpListener;
use std::time::Duration;

use cachekit_test_servers::certificates::Authority;
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::redis::{Cluster, Options, Redis, Sentinel, Tls};

#[test]
fn a_redis_answers_and_is_empty_after_a_restart_at_the_same_port() {
    let redis = Redis::start();
    assert_eq!(redis.command(&["SET", "k", "v"]), "OK");
    assert_eq!(redis.command(&["GET", "k"]), "v");
    let (port, pid) = (redis.port(), redis.pid());
    redis.restart();
    assert_eq!(redis.command(&["GET", "k"]), "");
    assert_eq!(redis.port(), port);
    assert_ne!(redis.pid(), pid);
    assert!(redis.socket().exists());
}

#[test]
fn a_restart_waits_for_a_port_that_somebody_has_taken_meanwhile() {
    let (redis, memcached) = (Redis::start(), Memcached::start());
    redis.kill();
    memcached.kill();
    let taken = [redis.port(), memcached.port()].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| redis.restart());
        scope.spawn(|| memcached.restart());
        // Enough for a first attempt.
        std::thread::sleep(Duration::from_millis(500));
        drop(taken);
    });
    assert_eq!(redis.command(&["PING"]), "PONG");
    assert!(memcached.exchange("version\r\n", "\r\n").starts_with("VERSION"));
}

#[test]
fn a_stopped_redis_holds_its_connections_and_goes_on() {
    let redis = Redis::start();
    redis.stop();
    let mut waiting = redis.client().args(["PING"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(waiting.try_wait().unwrap().is_none(), "a stopped server does not answer");
    redis.cont();
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn redis_demands_passwords_refuses_when_full_and_copies() {
    let locked = Options::new().with_password("secret").start();
    assert_eq!(locked.command(&["PING"]), "PONG");
    let full = Options::new().with_max_memory("1mb", "noeviction").start();
    full.command(&["SETRANGE", "large", "2000000", "x"]);
    assert!(full.command(&["SET", "k", "v"]).contains("OOM"));
    let primary = Redis::start();
    let replica = Options::new().with_primary(&primary).start();
    assert!(replica.command(&["SET", "k", "v"]).contains("READONLY"));
}

#[test]
fn redis_speaks_tls_with_right_and_wrong_certificates() {
    let authority = Authority::new();
    let ping = |server: &Tls| {
        let port = server.tls_port().to_string();
        let mut client = std::process::Command::new("redis-cli");
        client.args(["-h", "127.0.0.1", "-p", &port, "--tls", "--cacert"]).arg(server.ca()).arg("PING");
        client.output().unwrap().stdout.starts_with(b"PONG")
    };
    assert!(ping(&Tls::start(&authority)));
    assert!(!ping(&Tls::expired(&authority)));
    // redis-cli looks at no names; that the name is wrong is for our clients to see.
    assert!(ping(&Tls::wrong_name(&authority)));
}

#[test]
fn a_cluster_covers_all_slots_and_moves_them() {
    let cluster = Cluster::start();
    let set = |key: &str| {
        let mut client = cluster.nodes()[0].client();
        client.args(["-c", "SET", key, "v"]).output().unwrap().stdout.starts_with(b"OK")
    };
    assert!((0..20).all(|n| set(&format!("key-{n}"))));
    cluster.reshard(0, 1, 50);
    assert!((0..20).all(|n| set(&format!("key-{n}"))));
}

#[test]
fn a_sentinel_puts_the_replica_in_the_primarys_place() {
    let group = Sentinel::start();
    assert_eq!(group.primary_port(), group.servers()[0].port());
    group.kill_primary();
    println!("failover after {:?}", group.failed_over());
}

#[test]
fn a_memcached_answers_on_a_port_and_on_a_socket() {
    for server in [Memcached::start(), Memcached::unix()] {
        assert_eq!(server.exchange("set k 0 0 1\r\nv\r\n", "STORED\r\n"), "STORED\r\n");
        assert!(server.exchange("get k\r\n", "END\r\n").contains("\r\nv\r\n"));
        server.restart();
        assert_eq!(server.exchange("get k\r\n", "END\r\n"), "END\r\n");
        server.kill();
        assert_eq!(server.exchange("get k\r\n", "END\r\n"), "");
    }
}
