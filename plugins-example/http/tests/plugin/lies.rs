//! Servers that lie: what they send is an error of a kind, or at most a wrong value, never half of one and never more
//! memory than was allowed.

use std::time::Duration;

use cachekit_plugin::{Backend, BackendError, Bytes, Cx, Key, Kind, Retry};
use serde_json::json;

use crate::linked::open_with;
use crate::scripted::{Reply, Server, reply};
use crate::wire::echo;

const MAX: usize = 64 << 10;

/// One get of a server that answers everything with `answer`.
async fn get(answer: Reply, json_form: bool) -> Result<Option<Bytes>, BackendError> {
    let server = Server::start(move |_, _| answer.clone()).await;
    let mut options = json!({ "url": format!("{}/{{key:hex}}", server.origin()), "max_value": MAX, "retries": 0 });
    if json_form {
        options["json"] = json!({});
    }
    let backend = open_with(&options, echo());
    backend.get(Key::from_wire(b"k"), &Cx::within(Duration::from_secs(20))).await
}

async fn kind(answer: Reply) -> Kind {
    get(answer, false).await.expect_err("a lie was believed").kind()
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[tokio::test]
async fn half_a_value_is_no_value() {
    for (answer, wanted) in [
        // Fewer bytes than were promised.
        (Reply::Close(bytes("HTTP/1.1 200 x\r\nContent-Length: 10\r\n\r\nhalf")), Kind::Transient),
        // Chunks that end in the middle, or that are none.
        (Reply::Close(bytes("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")), Kind::Transient),
        (
            Reply::Close(bytes("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhalf\r\n0\r\n\r\n")),
            Kind::Transient,
        ),
        // No length at all: a cut one would look whole.
        (Reply::Close(bytes("HTTP/1.1 200 x\r\n\r\nhalf")), Kind::Corrupt),
        (Reply::Close(bytes("HTTP/1.0 200 x\r\n\r\nhalf")), Kind::Corrupt),
        // A part that says so.
        (reply(206, &["Content-Range: bytes 0-3/10"], b"half"), Kind::Corrupt),
        // Two lengths.
        (Reply::Close(bytes("HTTP/1.1 200 x\r\nContent-Length: 4\r\nContent-Length: 10\r\n\r\nhalf")), Kind::Transient),
        // No HTTP.
        (Reply::Close(bytes("SSH-2.0-OpenSSH_9.2\r\n")), Kind::Transient),
        (Reply::Close(bytes("")), Kind::Transient),
    ] {
        let shown = format!("{answer:?}");
        assert_eq!(kind(answer).await, wanted, "{shown}");
    }
}

#[tokio::test]
async fn more_than_a_value_may_have_is_not_taken_into_memory() {
    let endless = bytes("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let piece = [bytes("1000\r\n"), vec![b'x'; 0x1000], bytes("\r\n")].concat();
    assert_eq!(kind(Reply::Forever(endless, piece)).await, Kind::TooLarge);
    // A length that nobody could store: refused before a byte of it is read.
    let huge = bytes("HTTP/1.1 200 x\r\nContent-Length: 1152921504606846976\r\n\r\n");
    assert_eq!(kind(Reply::Hang(huge)).await, Kind::TooLarge);
    assert_eq!(kind(reply(200, &[], &vec![0; MAX + 1])).await, Kind::TooLarge);
    let whole = get(reply(200, &[], &vec![7; MAX]), false).await.unwrap().unwrap();
    assert_eq!(whole.len(), MAX, "the largest value is taken");
    // Heads without an end.
    let head = bytes("HTTP/1.1 200 x\r\n");
    assert_eq!(kind(Reply::Forever(head.clone(), bytes("X-Filler: 1\r\n"))).await, Kind::Transient);
    assert_eq!(kind(Reply::Forever(head, bytes("xxxxxxxxxxxxxxxx"))).await, Kind::Transient);
}

#[tokio::test]
async fn nothing_is_decompressed() {
    // 20 bytes of gzip that would be 1 MiB of zeros in a few steps: the encoding alone refuses it.
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1, 1, 0, 0, 0, 0x80, 0x90, 0xfe, 0xaf];
    for encoding in ["gzip", "br", "zstd", "deflate", "GZIP", "identity, gzip"] {
        let header = format!("Content-Encoding: {encoding}");
        assert_eq!(kind(reply(200, &[&header], &bomb)).await, Kind::Corrupt, "{encoding}");
    }
    let transfer = bytes("HTTP/1.1 200 x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\nhalf\r\n0\r\n\r\n");
    assert_eq!(kind(Reply::Close(transfer)).await, Kind::Corrupt);
    let said = get(reply(200, &["Content-Encoding: identity"], &bomb), false).await.unwrap().unwrap();
    assert_eq!(said, bomb.to_vec(), "a value may look compressed");
}

#[tokio::test]
async fn a_redirect_is_an_error_and_the_secret_stays() {
    let elsewhere = Server::start(|_, _| reply(200, &[], b"stolen")).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/x", elsewhere.origin());
        let server = Server::start(move |_, _| reply(status, &[&location], b"")).await;
        let options = json!({
            "url": format!("{}/{{key:hex}}", server.origin()), "bearer": { "$secret": "env:t0k" }, "allow_plain_http": true,
        });
        let backend = open_with(&options, echo());
        let error = backend.get(Key::from_wire(b"k"), &Cx::within(Duration::from_secs(20))).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (Kind::Config, Retry::No), "{error}");
        assert!(error.message().contains("redirect"), "{error}");
    }
    assert!(elsewhere.seen().is_empty(), "nobody else was asked");
}

#[tokio::test]
async fn a_page_that_is_no_value_comes_back_as_it_is_and_the_envelope_above_judges_it() {
    let page = b"<html>Please log in</html>";
    let found = get(reply(200, &["Content-Type: text/html"], page), false).await.unwrap();
    assert_eq!(found.as_deref(), Some(&page[..]));
}

#[tokio::test]
async fn a_document_that_is_not_of_the_form_is_corrupt() {
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "<html>",
        r#"{"value": 7}"#,
        r#"{"value": "not base64!"}"#,
        r#"{"value": "AAA"}"#,
        "{\"value\": \"",
    ] {
        let error = get(reply(200, &[], body.as_bytes()), true).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{body}: {error}");
    }
    let deep = "[".repeat(50_000);
    assert_eq!(get(reply(200, &[], deep.as_bytes()), true).await.unwrap_err().kind(), Kind::Corrupt);
    let found = get(reply(200, &[], br#"{"value": "AP8=", "ttl": 3}"#), true).await.unwrap();
    assert_eq!(found.as_deref(), Some(&b"\x00\xff"[..]));
}
