//! Where settings come from, and the mistakes people make with them.

use crate::program::{Home, Ran};

#[test]
fn every_setting_is_shown_with_its_source() {
    let home = Home::new();
    let path = home.write(".config/cachekit/cachekit.toml", "\nnamespace = \"fromfile\"\nttl = \"5m\"\n");
    let mut command = home.command(["config", "show", "--json"]);
    let ran: Ran = command.env("CACHEKIT_DEFAULT_TTL", "60").output().unwrap().into();
    let settings = ran.expect(0).json()["settings"].clone();
    assert_eq!(settings["namespace"]["value"], "fromfile");
    assert_eq!(settings["namespace"]["source"], format!("{}:2", path.display()));
    assert_eq!(settings["ttl"]["value"], "1m");
    assert_eq!(settings["ttl"]["source"], "environment CACHEKIT_DEFAULT_TTL");
    assert_eq!(settings["deadline"]["source"], "default");
    assert!(settings["tier"]["source"].as_str().unwrap().contains("nothing is configured"));
    let overridden = home.run(["config", "show", "--namespace", "cli", "--json"]).json();
    assert_eq!(overridden["settings"]["namespace"]["source"], "--namespace");
    let ran = home.run(["config", "show"]).expect(0);
    let line = ran.out().lines().find(|line| line.starts_with("namespace ")).unwrap();
    assert!(line.contains(" = fromfile  ("), "{line}");
}

#[test]
fn settings_change_what_the_program_does() {
    let home = Home::new();
    home.run(["--preset", "production", "set", "k", "v"]).expect(0);
    let left: f64 = home.run(["ttl", "k"]).expect(0).out().trim().parse().unwrap();
    assert!(left <= 600.0, "{left}");
    home.run(["--preset", "production", "set", "k", "v", "--no-expiry"]).expect(0);
    assert_eq!(home.run(["ttl", "k"]).expect(0).out(), "never\n");
}

#[test]
fn the_store_of_the_command_line_wins_over_the_environment() {
    let home = Home::new();
    let (a, b) = (home.path().join("a"), home.path().join("b"));
    let url = format!("file://{}", b.display());
    let mut command = home.command(["--backend", &url, "set", "k", "v"]);
    command.env("CACHEKIT_BACKEND", format!("file://{}", a.display()));
    assert!(command.status().unwrap().success());
    assert!(b.exists() && !a.exists());
}

#[test]
fn secrets_are_not_shown() {
    let home = Home::new();
    let toml = "[[tier]]\npath = \"/opt/store.so\"\noptions = { token = \"hunter2\", table = \"cache\" }\n";
    let config = home.write("c.toml", toml);
    for json in [&["--json"][..], &[]] {
        let args = ["--config", config.to_str().unwrap(), "config", "show"];
        let ran = home.run(args.iter().chain(json)).expect(0);
        assert!(!ran.out().contains("hunter2") && ran.out().contains("cache"), "{}", ran.out());
    }
}

#[track_caller]
fn refused(home: &Home, toml: &str, tells: &[&str]) {
    let config = home.write("c.toml", toml);
    let args = ["--config", config.to_str().unwrap(), "get", "k"];
    let ran = home.run(args).expect(2);
    for tell in tells.iter().chain(&["c.toml"]) {
        assert!(ran.err.contains(tell), "{toml:?} should tell {tell:?}: {}", ran.err);
    }
}

#[test]
fn mistakes_in_the_file_are_named_with_their_line() {
    let home = Home::new();
    refused(&home, "namespace = \"a\"\nnamespase = \"b\"\n", &["line 2", "namespase", "namespace"]);
    refused(&home, "\n\nttl = \"soon\"\n", &["c.toml:3", "soon", "10m"]);
    refused(&home, "ttl = 5\n", &["line 1"]);
    refused(&home, "[[tier]]\nbackend = \"file:///a\"\npath = \"/b.so\"\n", &["exclude each other"]);
    refused(&home, "[[tier]]\nbackend = \"/var/cache\"\n", &["file:///var/cache"]);
    refused(&home, "[[tier]]\npath = \"relative.so\"\n", &["not absolute"]);
    refused(&home, "preset = \"fast\"\n", &["fast", "production"]);
    refused(&home, "= 1\n", &["line 1"]);
}

#[test]
fn mistakes_on_the_command_line_and_in_the_environment_are_named() {
    let home = Home::new();
    assert!(home.run(["--config", "/nowhere/c.toml", "get", "k"]).expect(2).err.contains("/nowhere/c.toml"));
    assert!(home.run(["--backend", "/var/cache", "get", "k"]).expect(2).err.contains("file:///var/cache"));
    assert!(home.run(["--backend", "gopher://x", "get", "k"]).expect(2).err.contains("gopher"));
    assert!(home.run(["--backend", "file:///tmp/x?max_sise_mb=1", "get", "k"]).expect(2).err.contains("max_sise_mb"));
    assert!(home.run(["--preset", "fast", "get", "k"]).expect(2).err.contains("minimal, test, dev, production"));
    let mut command = home.command(["get", "k"]);
    command.env("CACHEKIT_FILE_CACHE_DIR", "/tmp/x").env("CACHEKIT_MEMCACHED_SERVERS", "h:11211");
    let ran = Ran::from(command.output().unwrap()).expect(2);
    assert!(
        ran.err.contains("CACHEKIT_FILE_CACHE_DIR") && ran.err.contains("CACHEKIT_MEMCACHED_SERVERS"),
        "{}",
        ran.err
    );
}

#[test]
fn what_is_odd_is_a_warning() {
    let home = Home::new();
    let mut command = home.command(["exists", "k"]);
    let ran = Ran::from(command.env("CACHEKIT_DEFALT_TTL", "60").output().unwrap()).expect(1);
    assert!(ran.err.starts_with("warning: ") && ran.err.contains("CACHEKIT_DEFALT_TTL"), "{}", ran.err);
}

#[test]
fn what_was_set_and_not_used_is_noted_and_what_the_process_sees_is_listed() {
    let home = Home::new();
    let variables = [("REDIS_URL", "redis://common:hunter2@h/0"), ("CACHEKIT_REDIS_URL", "redis://ours:1/0")];
    let mut command = home.command(["config", "show", "--json"]);
    let ran = Ran::from(command.envs(variables).output().unwrap()).expect(0);
    let shown = ran.json();
    assert_eq!(shown["settings"]["tier"]["source"], "environment CACHEKIT_REDIS_URL");
    assert_eq!(shown["settings"]["tier.options.url"]["value"], "redis://ours:1/0");
    assert!(shown["notes"][0].as_str().unwrap().starts_with("REDIS_URL is set, and not used"), "{shown}");
    assert_eq!(shown["variables"], serde_json::json!(["CACHEKIT_REDIS_URL", "REDIS_URL"]));
    let mut command = home.command(["config", "show"]);
    let ran = Ran::from(command.envs(variables).output().unwrap()).expect(0);
    assert!(ran.err.contains("note: REDIS_URL is set") && !format!("{ran:?}").contains("hunter2"), "{ran:?}");
    // A note is no warning: commands that do something else do not repeat it.
    let mut command = home.command(["--backend", "file:///tmp/nowhere/at/all", "config", "show", "--json"]);
    assert_eq!(Ran::from(command.envs(variables).output().unwrap()).expect(0).err, "");
}

#[test]
fn keys_are_checked_and_never_shown() {
    let home = Home::new();
    let show = |key: &str| {
        let mut command = home.command(["config", "show"]);
        Ran::from(command.env("CACHEKIT_MASTER_KEY", key).output().unwrap())
    };
    let key = "ab".repeat(32);
    let ran = show(&key).expect(0);
    assert!(!format!("{ran:?}").contains(&key) && ran.out().contains("encryption.master_key"), "{ran:?}");
    // The last is what the guide shows as a valid key.
    for (wrong, expected) in [
        ("my-secret-key", "character 1 of 13 is no hex digit"),
        ("abcd1234", "8 characters, 64 needed"),
        ("a1b2c3d4e5f6789012345678901234567890abcdef12345678901234567890", "62 characters, 64 needed"),
    ] {
        let ran = show(wrong).expect(2);
        assert!(ran.err.contains(expected) && ran.err.contains("CACHEKIT_MASTER_KEY"), "{ran:?}");
        assert!(ran.err.contains("openssl rand -hex 32") && !ran.err.contains(wrong), "{ran:?}");
    }
}

#[test]
fn check_opens_the_store() {
    let home = Home::new();
    assert!(home.run(["config", "check"]).expect(0).out().contains("healthy"));
    let missing = home.run(["--backend", "plugin:///nowhere/lib.so", "config", "check"]).expect(5);
    assert!(missing.err.contains("/nowhere/lib.so"), "{}", missing.err);
}

#[test]
fn check_tells_where_nobody_answers_and_how_to_look() {
    let home = Home::new();
    // A port that was free a moment ago, and nobody has a reason to take.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = home.command(["config", "check"]);
    let url = format!("redis://:hunter2@127.0.0.1:{port}/0");
    let ran = Ran::from(command.env("CACHEKIT_REDIS_URL", url).output().unwrap()).expect(3);
    assert!(ran.err.contains(&format!("127.0.0.1:{port}")) && ran.err.contains("refused"), "{ran:?}");
    assert!(ran.err.contains("redis-cli -u redis://") && !ran.err.contains("hunter2"), "{ran:?}");
}

#[test]
fn every_backend_is_built_in() {
    let home = Home::new();
    for (url, variables) in [
        ("redis://127.0.0.1:1/0?ttl=true", [("CACHEKIT_SOCKET_TIMEOUT", "2"), ("X", "")]),
        ("rediss://127.0.0.1:1?ttl=true", [("CACHEKIT_CONNECTION_POOL_SIZE", "3"), ("X", "")]),
        ("unix:///nowhere/redis.sock?ttl=true", [("X", ""), ("X", "")]),
        ("redis+cluster://127.0.0.1:1,127.0.0.1:2?ttl=true", [("X", ""), ("X", "")]),
        ("redis+sentinel://127.0.0.1:1,127.0.0.1:2/m?ttl=true", [("X", ""), ("X", "")]),
        (
            "memcached://127.0.0.1:1,127.0.0.1:2?timeout=2",
            [("CACHEKIT_MEMCACHED_KEY_PREFIX", "p:"), ("CACHEKIT_MEMCACHED_TIMEOUT", "2")],
        ),
        (
            "cachekitio://127.0.0.1:1?allow_private_host=true",
            [("CACHEKIT_API_KEY", "ck_live_abc"), ("CACHEKIT_MAX_RETRIES", "2")],
        ),
    ] {
        // Nobody listens at port 1. A backend opens without its server, and refuses an option that it does not know.
        let mut command = home.command(["--backend", url, "config", "check"]);
        let ran = Ran::from(command.envs(variables).output().unwrap()).expect(3);
        assert!(!ran.err.contains("no backend") && !ran.err.contains("unknown field"), "{url}: {ran:?}");
        let mut command = home.command(["--backend", &format!("{url}&colour=1"), "config", "check"]);
        let ran = Ran::from(command.envs(variables).output().unwrap()).expect(2);
        assert!(ran.err.contains("unknown field `colour`"), "{url}: {ran:?}");
    }
    let mut command = home.command(["config", "check"]);
    let ran = Ran::from(command.env("CACHEKIT_API_URL", "http://h").env("CACHEKIT_API_KEY", "k").output().unwrap());
    assert!(ran.expect(2).err.contains("CACHEKIT_API_URL"));
    assert!(
        home.run(["--backend", "cachekitio://", "config", "check"])
            .expect(2)
            .err
            .contains("CACHEKIT_API_KEY is not set")
    );
}
