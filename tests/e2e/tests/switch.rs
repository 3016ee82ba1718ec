//! One host program, not rebuilt: its backend is what its configuration file says.

use std::process::Command;

use cachekit_e2e::{Place, artifacts, output};
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::redis::Redis;

#[test]
fn the_same_program_moves_from_files_to_redis_to_memcached_by_its_file_alone() {
    let home = Place::new();
    let (redis, memcached) = (Redis::start(), Memcached::three());
    let file = home.path().join("cachekit.toml");
    let dir = home.path().join("store");
    let servers: Vec<String> = memcached.iter().map(Memcached::addr).collect();
    let library = |path: &std::path::Path| format!("[[tier]]\npath = {path:?}\n\n[tier.options]\n");
    let tiers = [
        ("files", format!("{}dir = {dir:?}\n", library(artifacts::file_plugin()))),
        ("redis", format!("{}url = {:?}\n", library(artifacts::redis_plugin()), redis.url())),
        ("memcached", format!("{}servers = {servers:?}\n", library(artifacts::memcached_plugin()))),
        ("redis, linked", format!("[[tier]]\nbackend = {:?}\n", redis.url())),
        ("memcached, linked", format!("[[tier]]\nbackend = \"memcached://{}\"\n", servers.join(","))),
    ];
    let run = |arguments: &[&str]| {
        let mut program = Command::new(artifacts::program());
        program.env_clear().env("HOME", home.path()).arg("--config").arg(&file).args(arguments);
        program
    };
    for (name, tier) in &tiers {
        std::fs::write(&file, format!("namespace = \"switch\"\n\n{tier}")).unwrap();
        let get = run(&["get", "who"]).output().unwrap();
        match *name {
            // Two ways to one store: what the library left, the linked backend finds.
            "redis, linked" => assert_eq!(get.stdout, b"redis"),
            "memcached, linked" => assert_eq!(get.stdout, b"memcached"),
            _ => {
                assert_eq!(get.status.code(), Some(1), "{name} begins empty: {}", String::from_utf8_lossy(&get.stderr))
            }
        }
        output(&mut run(&["set", "who", name]));
        assert_eq!(output(&mut run(&["get", "who"])).stdout, name.as_bytes());
    }
    // Each store kept its own.
    assert_eq!(redis.command(&["DBSIZE"]), "1");
    std::fs::write(&file, format!("namespace = \"switch\"\n\n{}", tiers[0].1)).unwrap();
    assert_eq!(output(&mut run(&["get", "who"])).stdout, b"files");
}
