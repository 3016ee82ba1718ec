//! Mistakes, and the words that help.

use super::*;

#[test]
fn mistakes_in_the_file_name_their_field_and_line() {
    for (toml, expected) in [
        ("nmespace = \"x\"\n", vec!["nmespace", "unknown field"]),
        ("[l1]\nmax_mb = 1\n", vec!["max_mb", "unknown field"]),
        ("[[tier]]\nurl = \"file:///x\"\n", vec!["url", "unknown field"]),
        ("[plugins]\nrequired = \"hash\"\n", vec!["required", "unknown field"]),
        ("ttl = 600\n", vec!["ttl", "line 1"]),
        ("ttl = nan\n", vec!["ttl", "line 1"]),
        ("\nttl = \"soon\"\n", vec!["ttl", "cachekit.toml:2", "10m"]),
        ("ttl = \"0s\"\n", vec!["ttl", "zero"]),
        ("deadline = \"0ms\"\n", vec!["deadline", "zero"]),
        ("namespace = \"a:b\"\n", vec!["namespace", "colon"]),
        ("namespace = \"\"\n", vec!["namespace"]),
        ("serializer = \"pickle\"\n", vec!["serializer", "msgpack, json"]),
        ("max_value = \"lots\"\n", vec!["max_value", "64KiB"]),
        ("max_value = 0\n", vec!["max_value", "at least 1"]),
        ("max_value = -1\n", vec!["max_value"]),
        ("[l1]\nmax_bytes = 1e400\n", vec!["max_bytes"]),
        ("[l1]\nmax_entries = 0\n", vec!["l1.max_entries", "l1.enabled"]),
        ("[compression]\nlevel = 20\n", vec!["compression.level", "1 to 19"]),
        ("[compression]\nalgorithm = \"lz4\"\nlevel = 1\n", vec!["lz4 has no levels"]),
        ("[compression]\nalgorithm = \"none\"\nthreshold = 1\n", vec!["nothing is compressed"]),
        ("[compression]\nalgorithm = \"snappy\"\n", vec!["zstd, lz4, none"]),
        ("[[tier]]\n", vec!["tier", "name one of"]),
        ("[[tier]]\nbackend = \"file:///x\"\npath = \"/y.so\"\n", vec!["exclude each other"]),
        ("[[tier]]\npath = \"y.so\"\n", vec!["not absolute"]),
        ("[[tier]]\nbackend = \"file:///x\"\nsha256 = \"00\"\n", vec!["sha256 belongs to a plugin"]),
        (
            "[[tier]]\nbackend = \"file:///x?max_size_mb=1\"\n[tier.options]\nmax_size_mb = 2\n",
            vec!["max_size_mb", "different values"],
        ),
        ("[[tier]]\nbackend = \"none\"\n[tier.options]\na = 1\n", vec!["takes no options"]),
        ("[[tier]]\nbackend = \"file:///x\"\nttl = \"1m\"\n", vec!["tier.ttl", ":3", "the last [[tier]]"]),
        (
            "[[tier]]\nbackend = \"file:///x\"\nwrite = \"back\"\n[[tier]]\nbackend = \"file:///y\"\n",
            vec!["tier.write", ":3", "through, behind, none"],
        ),
        (
            "[[tier]]\nbackend = \"file:///x\"\nttl = \"0s\"\n[[tier]]\nbackend = \"file:///y\"\n",
            vec!["tier.ttl", ":3", "life of zero"],
        ),
        (
            "[[tier]]\nbackend = \"none\"\n[[tier]]\nbackend = \"file:///y\"\n",
            vec!["tier", ":1", "no place in a chain"],
        ),
        (
            "[[tier]]\nbackend = \"file:///y\"\n[[tier]]\nbackend = \"none\"\n",
            vec!["tier", ":3", "no place in a chain"],
        ),
        (&*"[[tier]]\nbackend = \"file:///x\"\n".repeat(6), vec!["tier", ":9", "more than 4"]),
        ("[plugins]\ndirs = [\"plugins\"]\n", vec!["plugins.dirs", "not absolute"]),
        ("[plugins]\nreflect = \"maybe\"\n", vec!["off, warn, require"]),
        ("ttl = \"10m\"\nttl = \"5m\"\n", vec!["ttl", "duplicate"]),
        ("this is no toml", vec!["cachekit.toml"]),
    ] {
        let text = words(from_toml(toml));
        for word in expected {
            assert!(text.contains(word), "{toml:?}: {word:?} is not in {text:?}");
        }
    }
}

#[test]
fn mistakes_in_the_environment_name_their_variable() {
    for (name, value, expected) in [
        ("CACHEKIT_DEFAULT_TTL", "-1", "at least 0"),
        ("CACHEKIT_DEFAULT_TTL", "nan", "whole number"),
        ("CACHEKIT_DEFAULT_TTL", "1.5", "whole number"),
        ("CACHEKIT_L1_MAX_SIZE_MB", "0", "from 1"),
        ("CACHEKIT_MAX_VALUE_SIZE", "0", "at least 1"),
        ("CACHEKIT_COMPRESSION_LEVEL", "10", "from 1 to 9"),
        ("CACHEKIT_ENABLE_COMPRESSION", "perhaps", "neither true nor false"),
        ("CACHEKIT_BACKEND", "/var/cache", "file:///var/cache"),
        ("CACHEKIT_FILE_CACHE_DIR", "relative", "absolute"),
        ("CACHEKIT_REDIS_URL", "redis:localhost:6379", "redis://localhost:6379/0"),
        ("CACHEKIT_REDIS_URL", "redis/localhost:6379", "redis://localhost:6379/0"),
    ] {
        let text = words(from_env(&[(name, value)]));
        assert!(text.contains(name) && text.contains(expected), "{name}={value}: {text}");
    }
    let text = words(from_env(&[("CACHEKIT_FILE_CACHE_DIR", "/x"), ("CACHEKIT_FILE_MAX_SIZE_MB", "many")]));
    assert!(text.contains("CACHEKIT_FILE_MAX_SIZE_MB") && text.contains("from 1 to 1000000"), "{text}");
    let text = words(from_env(&[("CACHEKIT_FILE_CACHE_DIR", "/x"), ("CACHEKIT_FILE_PERMISSIONS", "0600")]));
    assert!(text.contains("384 is 0600"), "{text}");
}
