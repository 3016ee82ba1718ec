//! The server of `peer.py`, started for one test, and the options that lead to its two APIs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use cachekit_plugin::{HostServices, LogLevel, Services};
use serde_json::{Value as Json, json};

/// A running peer, ended when it is dropped.
pub(crate) struct Peer {
    child: Child,
    pub(crate) port: u16,
}

impl Peer {
    /// Takes lives from one second on.
    pub(crate) fn start() -> Self {
        Self::with_minimum(1)
    }

    /// Takes lives of `minimum` seconds and more through the API that looks like Cloudflare's.
    pub(crate) fn with_minimum(minimum: u32) -> Self {
        Self::with_arguments(&["--minimum", &minimum.to_string()])
    }

    /// As `peer.py` has them.
    pub(crate) fn with_arguments(arguments: &[&str]) -> Self {
        // As text, because this file is part of more than one crate.
        let mut child = Command::new("python3")
            .args(["-c", include_str!("../peer.py")])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed: apt-get install python3");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it prints its port");
        let port = line.trim().parse().expect("the peer prints its port");
        Self { child, port }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The options of a section of README.md.
pub(crate) fn of_readme(section: &str) -> Json {
    let text = include_str!("../../README.md");
    let (_, after) = text.split_once(&format!("\n## {section}\n")).expect("README.md has this section");
    let (_, after) = after.split_once("```toml\n").expect("with a configuration");
    let (block, _) = after.split_once("```").expect("that ends");
    let document: Json = toml::from_str(block).expect("that is TOML");
    document["tier"][0]["options"].clone()
}

/// The same, on another server.
pub(crate) fn led_to(options: &Json, from: &str, to: &str) -> Json {
    let text = options.to_string();
    assert!(text.contains(from), "nothing leads to {from}");
    serde_json::from_str(&text.replace(from, to)).expect("an origin for an origin")
}

/// What README.md has for Cloudflare, led to the peer. Its lives are those of the peer, so that they can be watched.
pub(crate) fn cloudflare(port: u16, namespace: &str) -> Json {
    let mut options =
        led_to(&of_readme("Cloudflare KV"), "https://api.cloudflare.com", &format!("http://127.0.0.1:{port}"));
    options["constants"]["namespace"] = json!(namespace);
    options["allow_plain_http"] = json!(true);
    options["ttl"]["minimum_ms"] = json!(1000);
    options["health"] = json!({ "url": format!("http://127.0.0.1:{port}/up") });
    options["key_bytes"] = json!("any");
    options["max_value"] = json!(1 << 20);
    options
}

/// What README.md has for a cache of one's own, led to the peer.
pub(crate) fn house(port: u16, space: &str) -> Json {
    let mut options =
        led_to(&of_readme("A cache of one's own"), "https://house.internal", &format!("http://127.0.0.1:{port}"));
    options["constants"]["space"] = json!(space);
    options["allow_plain_http"] = json!(true);
    options["key_bytes"] = json!("any");
    options["max_value"] = json!(1 << 20);
    // A busy machine is no outage.
    options["timeout_ms"] = json!(5000);
    options
}

/// A host that knows the secrets of the peer.
pub(crate) fn secrets() -> HostServices {
    struct Secrets;
    impl Services for Secrets {
        fn log(&self, _: LogLevel, _: &str, _: &str, _: &[(&str, &str)]) {}
        fn secret(&self, reference: &str) -> Result<String, String> {
            match reference {
                "env:CLOUDFLARE_API_TOKEN" => Ok("t0ken-of-the-peer".into()),
                "env:HOUSE_CACHE_PASSWORD" => Ok("pass:word".into()),
                // A key that a test has made.
                other => match other.strip_prefix("pem:") {
                    Some(key) => Ok(key.to_owned()),
                    None => Err(format!("{other} is not set")),
                },
            }
        }
    }
    HostServices::new(Arc::new(Secrets))
}
