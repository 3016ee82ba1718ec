//! README.md tells the truth: its configurations open, its defaults are the defaults, and Cloudflare's minimum is kept.

use std::time::Duration;

use cachekit_plugin::{Backend, Bytes, Cx, Key, KeyBytes, Open, Ttl};
use serde_json::json;

use crate::linked::open_with;
use crate::peer::{self, Peer};
use crate::wire::echo;

#[test]
fn every_configuration_opens() {
    for section in ["Cloudflare KV", "A cache of one's own", "A web server with WebDAV"] {
        let limits = open_with(&peer::of_readme(section), echo()).limits();
        assert_eq!(limits.key_bytes, KeyBytes::Printable, "{section}");
    }
    let mut serve = peer::of_readme("cachekit serve");
    serve.as_object_mut().unwrap().remove("ca_file");
    let limits = open_with(&serve, echo()).limits();
    assert_eq!((limits.max_key, limits.ttl_max_ms), (400, 2_592_000_000));
}

#[test]
fn limits_follow_from_the_configuration() {
    let limits = |section| open_with(&peer::of_readme(section), echo()).limits();
    assert_eq!(limits("Cloudflare KV").ttl_step_ms, 60_000, "raising to the minimum is rounding up");
    assert_eq!(limits("A cache of one's own").ttl_step_ms, 1);
    assert_eq!(limits("A web server with WebDAV").ttl_step_ms, u64::MAX, "it knows no lives");
}

#[tokio::test]
async fn a_life_below_cloudflares_minimum_is_raised_to_it_and_taken() {
    let peer = Peer::with_minimum(60);
    let mut options = peer::cloudflare(peer.port, "minimum");
    let (key, cx) = (Key::from_wire(b"k"), Cx::within(Duration::from_secs(20)));
    // The control: the peer refuses what is not raised.
    let told = open_with(&options, peer::secrets());
    assert!(told.set(key, Bytes::from_static(b"v"), Ttl::from_ms(5000).unwrap(), &cx).await.is_err());
    options["ttl"] = peer::of_readme("Cloudflare KV")["ttl"].clone();
    let raised = open_with(&options, peer::secrets());
    raised.set(key, Bytes::from_static(b"v"), Ttl::from_ms(5000).unwrap(), &cx).await.unwrap();
    assert_eq!(raised.get(key, &cx).await.unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn the_schema_describes_every_option_as_does_the_page() {
    let schema = cachekit_http::HttpBackend::schema();
    let properties = schema["properties"].as_object().unwrap();
    let page = include_str!("../../README.md");
    for (name, property) in properties {
        assert!(property.get("description").is_some(), "{name} has no description");
        assert!(page.contains(name), "README.md says nothing of {name}");
    }
    assert_eq!(schema["additionalProperties"], json!(false));
}
