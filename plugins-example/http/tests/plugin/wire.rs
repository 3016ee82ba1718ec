//! What stands on the wire: request lines and headers as a server sees them, whatever the key.

use std::sync::Arc;
use std::time::Duration;

use cachekit_plugin::{Backend, Bytes, Cx, HostServices, Key, Kind, LogLevel, Services, Ttl};
use serde_json::{Value as Json, json};

use crate::linked::open_with;
use crate::scripted::{Server, reply};

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(20))
}

/// Every secret is what follows `env:`.
pub(crate) fn echo() -> HostServices {
    struct Echo;
    impl Services for Echo {
        fn log(&self, _: LogLevel, _: &str, _: &str, _: &[(&str, &str)]) {}
        fn secret(&self, reference: &str) -> Result<String, String> {
            Ok(reference.trim_start_matches("env:").to_owned())
        }
    }
    HostServices::new(Arc::new(Echo))
}

fn everything(origin: &str) -> Json {
    json!({
        "url": format!("{origin}/v1/{{space}}/{{key:percent}}/data?ttl={{ttl}}&app=x"),
        "constants": { "space": "a b" },
        "bearer": { "$secret": "env:t0k3n" },
        "secret_headers": { "X-Key": { "$secret": "env:second" } },
        "headers": { "X-Entry": "{key:hex}", "X-Space": "{space}", "X-Life": "{ttl}" },
        "allow_plain_http": true,
        "key_bytes": "any",
    })
}

#[tokio::test]
async fn each_operation_is_sent_as_the_options_say() {
    let server = Server::start(|seen, _| match &*seen.line {
        line if line.starts_with("GET") => reply(200, &[], b"value"),
        line if line.starts_with("PUT") => reply(201, &[], b""),
        line if line.starts_with("DELETE") => reply(404, &[], b""),
        _ => reply(200, &[], b""),
    })
    .await;
    let backend = open_with(&everything(&server.origin()), echo());
    let key = Key::from_wire(b"k/1");
    assert_eq!(backend.get(key, &cx()).await.unwrap().as_deref(), Some(&b"value"[..]));
    backend.set(key, Bytes::from_static(b"v"), Ttl::from_ms(1500).unwrap(), &cx()).await.unwrap();
    backend.set(key, Bytes::new(), Ttl::Never, &cx()).await.unwrap();
    assert!(!backend.delete(key, &cx()).await.unwrap());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = Cx { trace: Some(trace), ..cx() };
    assert!(backend.exists(key, &traced).await.unwrap());

    let seen = server.seen();
    let lines: Vec<&str> = seen.iter().map(|seen| &*seen.line).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/a%20b/k%2F1/data?app=x HTTP/1.1",
            "PUT /v1/a%20b/k%2F1/data?ttl=2&app=x HTTP/1.1",
            "PUT /v1/a%20b/k%2F1/data?app=x HTTP/1.1",
            "DELETE /v1/a%20b/k%2F1/data?app=x HTTP/1.1",
            "HEAD /v1/a%20b/k%2F1/data?app=x HTTP/1.1",
        ]
    );
    for seen in &seen {
        assert_eq!(seen.header("authorization"), Some("Bearer t0k3n"));
        assert_eq!(seen.header("x-key"), Some("second"));
        assert_eq!((seen.header("x-entry"), seen.header("x-space")), (Some("6b2f31"), Some("a b")));
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
    }
    let life: Vec<Option<&str>> = seen.iter().map(|seen| seen.header("x-life")).collect();
    assert_eq!(life, [None, Some("2"), None, None, None]);
    assert_eq!((&*seen[1].body, seen[1].header("content-type")), (&b"v"[..], Some("application/octet-stream")));
    assert_eq!(seen[2].header("content-length"), Some("0"), "an empty value is said to be empty");
    assert_eq!((seen[4].header("traceparent"), seen[0].header("traceparent")), (Some(trace), None));
}

/// Keys that mean something to a parser of URLs, of HTTP or of paths.
fn hostile() -> Vec<Vec<u8>> {
    let long = "../".repeat(170);
    let texts: [&[u8]; 24] = [
        b"../../admin",
        b"..",
        b".",
        b"...",
        b"/",
        b"//evil.example/x",
        b"http://evil.example/",
        b"a?b=c&d=e",
        b"a#fragment",
        b"%2e%2e%2f",
        b"%2f",
        b"%",
        b"%00",
        b"x HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /admin",
        b"a\r\nX-Evil: 1",
        b"a\nb",
        b"\0",
        b"@evil.example",
        b":8080",
        b"\\\\evil\\..\\x",
        "\u{202e}caf\u{e9}\u{feff}".as_bytes(),
        b"\xff\xfe\x80",
        b"a b+c;d",
        long.as_bytes(),
    ];
    texts.iter().map(|text| text.to_vec()).collect()
}

#[tokio::test]
async fn no_key_changes_the_request_line_or_adds_a_header() {
    let server = Server::start(|_, _| reply(200, &[], b"")).await;
    for form in ["percent", "base64url", "hex"] {
        let options = json!({
            "url": format!("{}/fixed/{{key:{form}}}/end?q={{key:{form}}}&last=1", server.origin()),
            "headers": { "X-Entry": format!("{{key:{form}}}") },
            "key_bytes": "any",
        });
        let backend = open_with(&options, echo());
        for key in hostile() {
            let before = server.seen().len();
            let answer = backend.get(Key::from_wire(&key), &cx()).await;
            let dots = form == "percent" && (key == b"." || key == b"..");
            if dots {
                assert_eq!(answer.unwrap_err().kind(), Kind::Unsupported);
                assert_eq!(server.seen().len(), before, "nothing was sent");
                continue;
            }
            answer.unwrap_or_else(|error| panic!("{form} {}: {error}", key.escape_ascii()));
            let seen = server.seen().pop().unwrap();
            let target = seen.line.strip_prefix("GET /fixed/").and_then(|rest| rest.strip_suffix("&last=1 HTTP/1.1"));
            let (segment, value) = target.and_then(|target| target.split_once("/end?q=")).expect(&seen.line);
            assert_eq!(segment, value);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte);
            assert!(!segment.is_empty() && segment.bytes().all(plain), "{}", seen.line);
            assert_eq!(decoded(form, segment), key, "{form}: the server gets the key it was given");
            assert_eq!(seen.header("x-entry"), Some(segment));
            let names: Vec<&str> = seen.headers.iter().map(|(name, _)| &**name).collect();
            assert!(
                !names.contains(&"x-evil") && names.iter().filter(|name| **name == "host").count() == 1,
                "{names:?}"
            );
        }
    }
}

/// What a server reads out of a segment.
fn decoded(form: &str, segment: &str) -> Vec<u8> {
    use base64::Engine as _;
    let byte = |hex: &str| u8::from_str_radix(hex, 16).unwrap();
    match form {
        "hex" => (0..segment.len() / 2).map(|at| byte(&segment[2 * at..2 * at + 2])).collect(),
        "base64url" => base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(segment).unwrap(),
        _ => {
            let (mut bytes, mut rest) = (Vec::new(), segment);
            while let Some(first) = rest.chars().next() {
                match first {
                    '%' => bytes.push(byte(&rest[1..3])),
                    other => bytes.push(other as u8),
                }
                rest = &rest[if first == '%' { 3 } else { 1 }..];
            }
            bytes
        }
    }
}

#[tokio::test]
async fn what_the_limits_do_not_allow_is_refused_and_not_sent() {
    let server = Server::start(|_, _| reply(200, &[], b"")).await;
    let url = format!("{}/{{key:percent}}?t={{ttl}}", server.origin());
    let backend = open_with(
        &json!({ "url": url, "max_value": 4, "ttl": { "minimum_ms": 60_000, "below_minimum": "refuse" } }),
        echo(),
    );
    let long = vec![b'k'; 64 << 10];
    for key in [&long[..], b"a b", b"\0", b"", "\u{e9}".as_bytes()] {
        let error = backend.get(Key::from_wire(key), &cx()).await.unwrap_err();
        let wanted = if key.len() > 512 { Kind::TooLarge } else { Kind::Unsupported };
        assert_eq!(error.kind(), wanted, "{error}");
        assert!(backend.delete(Key::from_wire(key), &cx()).await.is_err());
    }
    let key = Key::from_wire(b"k");
    let error = backend.set(key, Bytes::from_static(b"12345"), Ttl::Never, &cx()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge, "{error}");
    let short = backend.set(key, Bytes::from_static(b"v"), Ttl::from_ms(5000).unwrap(), &cx()).await.unwrap_err();
    assert_eq!(short.kind(), Kind::Unsupported, "{short}");
    assert!(short.message().contains("60000"), "{short}");
    assert!(server.seen().is_empty());
    let raised = open_with(&json!({ "url": url, "ttl": { "minimum_ms": 60_000 } }), echo());
    raised.set(key, Bytes::from_static(b"v"), Ttl::from_ms(5000).unwrap(), &cx()).await.unwrap();
    assert_eq!(server.seen()[0].line, "PUT /k?t=60 HTTP/1.1");
}

#[tokio::test]
async fn a_delete_that_asks_first_tells_the_truth_of_a_server_that_does_not() {
    let server = Server::start(|seen, number| match &*seen.line {
        line if line.starts_with("HEAD") => reply(if number == 0 { 404 } else { 200 }, &[], b""),
        _ => reply(200, &[], b"{}"),
    })
    .await;
    let options = json!({ "url": format!("{}/{{key:hex}}", server.origin()), "delete_asks_first": true });
    let backend = open_with(&options, echo());
    assert!(!backend.delete(Key::from_wire(b"k"), &cx()).await.unwrap());
    assert!(backend.delete(Key::from_wire(b"k"), &cx()).await.unwrap());
    assert_eq!(server.seen().iter().filter(|seen| seen.line.starts_with("DELETE")).count(), 2, "deleted either way");
}
