//! Throttled, half done, lying, slow and down: what the service, or what stands in its place, does to the backend.

mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cachekit_dynamodb::DynamoDbBackend;
use cachekit_plugin::{
    Backend, BackendError, Batch, Bytes, Cas, Clear, Cx, Key, Kind, Locks, Retry, Scan, SetItem, Ttl,
};
use cachekit_test_servers::moto::Moto;
use serde_json::{Value as Json, json};

use store::rewriter::{Answer, Asked, Rewriter};
use store::{cx, get, key, open, options, set, with};

/// A backend behind a rewriter that answers what `rewrite` says; where that is `None`, moto's answer.
fn behind(
    moto: &Moto,
    more: &Json,
    rewrite: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
) -> (Rewriter, DynamoDbBackend) {
    let rewriter = Rewriter::start(moto.port(), move |asked| rewrite(asked).unwrap_or_else(|| asked.pass()));
    let backend = open(&with(&options(&rewriter.url()), more));
    (rewriter, backend)
}

/// A server of which only the lies are needed.
fn liar(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (Rewriter, DynamoDbBackend) {
    let rewriter = Rewriter::start(1, answer);
    let backend = open(&with(&options(&rewriter.url()), &json!({ "create_table": false, "max_attempts": 1 })));
    (rewriter, backend)
}

async fn get_error(backend: &DynamoDbBackend) -> BackendError {
    within(backend.get(key("k"), &cx())).await.unwrap_err()
}

/// A hang is a failure and not the end of the run.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it hangs")
}

#[tokio::test]
async fn throttling_is_told_as_such_with_a_pause() {
    for code in ["ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"] {
        let (_liar, backend) = liar(move |_| Answer::error(400, code, "slow down"));
        let error = get_error(&backend).await;
        assert_eq!(error.kind(), Kind::Throttled, "{error}");
        assert_eq!(error.retry(), Retry::After(Duration::from_millis(250)), "{error}");
        assert!(error.message().contains(code) && !error.message().contains("slow down"), "{error}");
    }
    for (header, text, pause) in [
        ("x-amz-retry-after", "1500", Duration::from_millis(1500)),
        ("retry-after", "3", Duration::from_secs(3)),
        ("retry-after", "86400", Duration::from_secs(60)),
        ("retry-after", "tomorrow", Duration::from_millis(250)),
    ] {
        let (_liar, backend) = liar(move |_| {
            let body = json!({ "__type": "ThrottlingException", "message": "" }).to_string();
            Answer::With(400, vec![(header, text.to_owned())], body.into_bytes())
        });
        assert_eq!(get_error(&backend).await.retry(), Retry::After(pause), "{header}: {text}");
    }
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated_as_often_as_configured_and_the_rest_is_not() {
    let moto = Moto::start();
    // The first of each kind is throttled.
    let throttle = |asked: &Asked| (asked.before == 0).then(|| Answer::error(400, "ThrottlingException", ""));
    let kinds = ["GetItem", "PutItem", "DeleteItem", "BatchGetItem", "BatchWriteItem", "Scan"];
    let rewrite = move |asked: &Asked| kinds.contains(&&*asked.operation).then(|| throttle(asked)).flatten();
    let (rewriter, backend) = behind(&moto, &json!({ "max_attempts": 2 }), rewrite);
    set(&backend, "k", b"v").await;
    assert_eq!(get(&backend, "k").await, Some(Bytes::from_static(b"v")));
    assert!(backend.get_many(&[key("k")], &cx()).await.unwrap()[0].as_ref().unwrap().is_some());
    assert_eq!(backend.next(b"", None, 10, &cx()).await.unwrap().items.len(), 1);
    for kind in ["PutItem", "GetItem", "BatchGetItem", "Scan"] {
        assert_eq!(rewriter.count(kind), 2, "{kind}");
    }
    assert_eq!(backend.delete(key("k"), &cx()).await.unwrap_err().kind(), Kind::Throttled);
    assert_eq!(rewriter.count("DeleteItem"), 1);

    let (rewriter, backend) = liar(|_| Answer::error(500, "InternalServerError", ""));
    assert_eq!(get_error(&backend).await.kind(), Kind::Transient);
    assert_eq!(rewriter.count("GetItem"), 1, "max_attempts is 1");
}

/// A write whose answer is lost may have happened. Its repetition would say "no" to whoever did it.
#[tokio::test]
async fn a_write_that_depends_on_something_is_not_repeated_when_its_answer_is_lost() {
    let moto = Moto::start();
    let lost = Arc::new(AtomicUsize::new(0));
    let losing = Arc::clone(&lost);
    let rewrite = move |asked: &Asked| {
        let conditional = asked.operation == "DeleteItem" || asked.body.get("ConditionExpression").is_some();
        (conditional && losing.load(Ordering::SeqCst) > 0).then(|| {
            asked.forward(&asked.body);
            Answer::Nothing
        })
    };
    let (rewriter, backend) = behind(&moto, &json!({ "max_attempts": 3 }), rewrite);
    set(&backend, "k", b"v").await;
    lost.store(1, Ordering::SeqCst);
    let puts = rewriter.count("PutItem");
    assert_eq!(backend.delete(key("k"), &cx()).await.unwrap_err().kind(), Kind::Transient);
    assert_eq!(backend.lock(key("k"), b"t", 60_000, &cx()).await.unwrap_err().kind(), Kind::Transient);
    let set_if = backend.set_if(key("k"), Bytes::from_static(b"w"), Ttl::Never, None, &cx()).await;
    assert_eq!(set_if.unwrap_err().kind(), Kind::Transient);
    assert_eq!(rewriter.count("DeleteItem"), 1);
    assert_eq!(rewriter.count("PutItem"), puts + 2);
    lost.store(0, Ordering::SeqCst);
    // All three did happen.
    assert_eq!(get(&backend, "k").await, Some(Bytes::from_static(b"w")));
    assert!(backend.unlock(key("k"), b"t", &cx()).await.unwrap());
}

/// Does `count` items of a batch and leaves the others undone.
fn half_of(asked: &Asked, count: usize) -> Answer {
    let table = asked.body["RequestItems"].as_object().unwrap().keys().next().unwrap().clone();
    let (reads, undone_name) = match asked.operation.as_str() {
        "BatchGetItem" => (true, "UnprocessedKeys"),
        _ => (false, "UnprocessedItems"),
    };
    let mut done = asked.body.clone();
    let mut undone = asked.body["RequestItems"].clone();
    let place = if reads { format!("/RequestItems/{table}/Keys") } else { format!("/RequestItems/{table}") };
    let all = done.pointer(&place).unwrap().as_array().unwrap().clone();
    let count = count.min(all.len());
    *done.pointer_mut(&place).unwrap() = json!(all[..count]);
    let place = place.replace("/RequestItems", "");
    *undone.pointer_mut(&place).unwrap() = json!(all[count..]);
    let mut answer = match count {
        0 => json!({ "Responses": {} }),
        _ => asked.forward(&done).1,
    };
    answer[undone_name] = if count == all.len() { json!({}) } else { undone };
    Answer::json(&answer)
}

#[tokio::test]
async fn what_a_batch_left_undone_is_sent_again_and_nothing_is_lost() {
    let moto = Moto::start();
    // Seven at a time, whatever was asked for.
    let rewrite = |asked: &Asked| asked.operation.starts_with("Batch").then(|| half_of(asked, 7));
    let (rewriter, backend) = behind(&moto, &json!({}), rewrite);
    let names: Vec<String> = (0..40).map(|number| format!("k{number}")).collect();
    let value = |name: &String| Bytes::from(format!("value of {name}"));
    let items: Vec<_> =
        names.iter().map(|name| SetItem { key: key(name), value: value(name), ttl: Ttl::Never }).collect();
    assert!(backend.set_many(&items, &cx()).await.unwrap().iter().all(Result::is_ok));
    // 25 and 15 items, seven at a time.
    assert_eq!(rewriter.count("BatchWriteItem"), 4 + 3);
    let absent = ["absent".to_owned()];
    let keys: Vec<_> = names.iter().chain(&absent).map(|name| key(name)).collect();
    let found = backend.get_many(&keys, &cx()).await.unwrap();
    for (name, found) in names.iter().zip(&found) {
        assert_eq!(found.as_ref().unwrap().as_ref(), Some(&value(name)));
    }
    assert!(found[40].as_ref().unwrap().is_none());
    assert_eq!(rewriter.count("BatchGetItem"), 6);
    assert_eq!(Clear::clear(&backend, b"", &cx()).await.unwrap(), 40);
    assert_eq!(Clear::clear(&backend, b"", &cx()).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_undone_at_the_deadline_is_an_error_of_its_own() {
    let moto = Moto::start();
    // Three the first time, and none after.
    let first = Arc::new(AtomicBool::new(false));
    let is_first = Arc::clone(&first);
    let rewrite = move |asked: &Asked| {
        let batch = asked.operation.starts_with("Batch");
        batch.then(|| half_of(asked, if is_first.swap(false, Ordering::SeqCst) { 3 } else { 0 }))
    };
    let (_rewriter, backend) = behind(&moto, &json!({}), rewrite);
    set(&backend, "absent", b"").await;
    let names = ["a", "b", "c", "d", "e"];
    let items: Vec<_> =
        names.iter().map(|name| SetItem { key: key(name), value: Bytes::new(), ttl: Ttl::Never }).collect();
    let keys: Vec<Key<'_>> = names.iter().map(|name| key(name)).collect();
    // Whether the first exchange came to its end. On a machine too busy for that the deadline ends it too, and a longer one is
    // tried; what is said of what was not done holds in every try.
    let check = |done: Vec<Option<BackendError>>| {
        assert!(done[3..].iter().all(Option::is_some), "{done:?}");
        for error in done.iter().flatten() {
            // Late is the one whose last try was under way.
            assert!(matches!(error.kind(), Kind::Throttled | Kind::Timeout), "{error}");
            assert_ne!(error.retry(), Retry::No);
        }
        done[..3].iter().all(Option::is_none)
    };
    let tries = [3, 12, 48].map(Duration::from_secs);
    let (mut written, mut read) = (false, false);
    for time in tries {
        first.store(true, Ordering::SeqCst);
        let done = within(backend.set_many(&items, &Cx::within(time))).await.unwrap();
        written = check(done.into_iter().map(Result::err).collect());
        if written {
            break;
        }
    }
    assert!(written, "three items are written in the longest of {tries:?}");
    for time in tries {
        first.store(true, Ordering::SeqCst);
        let found = within(backend.get_many(&keys, &Cx::within(time))).await.unwrap();
        assert!(found.iter().flatten().all(Option::is_some), "what was written is not missing");
        read = check(found.into_iter().map(Result::err).collect());
        if read {
            break;
        }
    }
    assert!(read, "three items are read in the longest of {tries:?}");
    first.store(false, Ordering::SeqCst);
    let error = within(Clear::clear(&backend, b"", &Cx::within(tries[0]))).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Throttled | Kind::Timeout), "a clear that was not done is no number: {error}");
}

#[tokio::test]
async fn the_item_of_another_key_is_never_a_value() {
    let other = json!({ "key": { "S": "other" }, "value": { "B": "AAA=" } });
    let (_liar, backend) = liar(move |asked| {
        let table = asked.body["RequestItems"].as_object().and_then(|items| items.keys().next().cloned());
        Answer::json(&match (&*asked.operation, table) {
            ("BatchGetItem", Some(table)) => json!({ "Responses": { table: [other] }, "UnprocessedKeys": {} }),
            ("DeleteItem", _) => json!({ "Attributes": other }),
            ("Scan", _) => json!({ "Items": [{ "value": { "B": "AAA=" } }], "Count": 1 }),
            _ => json!({ "Item": other }),
        })
    });
    assert_eq!(get_error(&backend).await.kind(), Kind::Corrupt);
    assert_eq!(backend.exists(key("k"), &cx()).await.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(backend.delete(key("k"), &cx()).await.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(backend.get_version(key("k"), &cx()).await.unwrap_err().kind(), Kind::Corrupt);
    let many = backend.get_many(&[key("k"), key("l")], &cx()).await.unwrap();
    assert!(many.iter().all(|answer| answer.as_ref().is_err_and(|error| error.kind() == Kind::Corrupt)));
    assert_eq!(backend.next(b"", None, 10, &cx()).await.unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn answers_that_nobody_asked_for_end_the_batch_and_not_the_caller() {
    let foreign = json!({ "key": { "S": "other" } });
    let (_liar, backend) = liar(move |asked| {
        let table = asked.body["RequestItems"].as_object().and_then(|items| items.keys().next().cloned());
        Answer::json(&match (&*asked.operation, table) {
            ("BatchGetItem", Some(table)) => {
                json!({ "Responses": {}, "UnprocessedKeys": { table: { "Keys": [foreign] } } })
            }
            ("BatchWriteItem", Some(table)) => {
                json!({ "UnprocessedItems": { table: [{ "DeleteRequest": { "Key": foreign } }] } })
            }
            // A scan that stands still.
            _ => json!({ "Items": [], "Count": 0, "LastEvaluatedKey": foreign }),
        })
    });
    let item = SetItem { key: key("k"), value: Bytes::new(), ttl: Ttl::Never };
    let read = within(backend.get_many(&[key("k")], &cx())).await.unwrap().remove(0);
    assert_eq!(read.unwrap_err().kind(), Kind::Corrupt);
    let written = within(backend.set_many(&[item], &cx())).await.unwrap().remove(0);
    assert_eq!(written.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(within(Clear::clear(&backend, b"", &cx())).await.unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_an_error_and_never_a_miss() {
    let whole = |body: &'static str| move |_: &Asked| Answer::Whole(200, body.as_bytes().to_vec());
    for body in
        ["", "{", "{\"Item\":{\"key\":{\"S\":\"k\"},\"value\":{\"B\":\"AA", "<html>login</html>", "[]", "null", "42"]
    {
        let (_liar, backend) = liar(whole(body));
        let answer = within(backend.get(key("k"), &cx())).await;
        match (body, answer) {
            // An answer without an item is DynamoDB's word for a miss; these two cannot be told from it by the SDK.
            ("" | "null", Ok(None)) => {}
            (_, answer) => assert_eq!(answer.unwrap_err().kind(), Kind::Corrupt, "{body}"),
        }
    }
    let (_liar, backend) = liar(whole("{\"Item\":{\"key\":{\"S\":\"k\"},\"value\":{\"B\":\"not base64!\"}}}"));
    assert_eq!(get_error(&backend).await.kind(), Kind::Corrupt);
    // Cut in the middle by the end of the connection.
    let (_liar, backend) = liar(|_| Answer::Cut(b"{\"Item\":{\"key\":{\"S\":".to_vec()));
    assert_eq!(get_error(&backend).await.kind(), Kind::Transient);
    let (_liar, backend) = liar(|_| Answer::Nothing);
    assert_eq!(get_error(&backend).await.kind(), Kind::Transient);
}

#[tokio::test]
async fn a_body_without_end_is_not_collected() {
    let (_liar, backend) = liar(|_| Answer::Endless);
    let error = get_error(&backend).await;
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(error.message().contains("larger"), "{error}");
    // One that announces its size is not begun.
    let (_liar, backend) = liar(|_| Answer::Whole(200, vec![b' '; (32 << 20) + 1]));
    assert!(get_error(&backend).await.message().contains("larger"));
}

#[tokio::test]
async fn refusals_are_told_apart_and_say_what_to_do() {
    for (status, code, kind, help) in [
        (400, "AccessDeniedException", Kind::Auth, "README"),
        (400, "UnrecognizedClientException", Kind::Auth, "access key id"),
        (400, "InvalidSignatureException", Kind::Auth, "clock"),
        (400, "ExpiredTokenException", Kind::Auth, "temporary"),
        (400, "MissingAuthenticationTokenException", Kind::Auth, "Missing"),
        (400, "ResourceNotFoundException", Kind::Config, "create_table"),
        (400, "ValidationException", Kind::Config, "partition key"),
        (500, "InternalServerError", Kind::Transient, "Internal"),
        (503, "ServiceUnavailable", Kind::Transient, "Unavailable"),
        (418, "SomethingNew", Kind::Internal, "SomethingNew"),
    ] {
        let (_liar, backend) = liar(move |_| Answer::error(status, code, "canary-in-the-sentence"));
        let error = get_error(&backend).await;
        assert_eq!(error.kind(), kind, "{code}: {error}");
        assert!(error.message().contains(help), "{code}: {error}");
        assert!(!format!("{error:?}").contains("canary"), "{code}: {error:?}");
    }
    let (_liar, backend) = liar(|_| Answer::error(400, "ValidationException", "Item size has exceeded the maximum"));
    assert_eq!(get_error(&backend).await.kind(), Kind::TooLarge);
    for (status, kind) in [(502, Kind::Transient), (403, Kind::Auth), (404, Kind::Config), (301, Kind::Config)] {
        let (_liar, backend) = liar(move |_| Answer::Whole(status, b"<html>a proxy</html>".to_vec()));
        let error = get_error(&backend).await;
        assert_eq!(error.kind(), kind, "{status}: {error}");
        assert!(!error.to_string().contains("html"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_or_silent_costs_no_more_than_the_deadline() {
    let moto = Moto::start();
    let backend = open(&options(&moto.url()));
    set(&backend, "k", b"v").await;
    moto.stop();
    for _ in 0..2 {
        let error = within(backend.get(key("k"), &Cx::within(Duration::from_millis(200)))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
    }
    let batch = within(backend.get_many(&[key("k")], &Cx::within(Duration::from_millis(200)))).await;
    assert_eq!(batch.unwrap().remove(0).unwrap_err().kind(), Kind::Timeout);
    moto.cont();
    assert_eq!(get(&backend, "k").await, Some(Bytes::from_static(b"v")), "it is well again");
    moto.kill();
    let error = within(backend.get(key("k"), &cx())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Transient, "{error}");
    assert!(backend.health(&Cx::within(Duration::from_secs(5))).await.is_err());
}

/// `timeout` ends an exchange before the caller's deadline, so that there is time for another.
#[tokio::test]
async fn an_exchange_that_is_not_answered_gives_way_to_the_next() {
    let moto = Moto::start();
    // So long that the server, which answers in Python, does not need it for those that it does answer.
    let silent = |asked: &Asked| (asked.operation == "GetItem" && asked.before == 0).then_some(Answer::Silence);
    let (rewriter, backend) = behind(&moto, &json!({ "timeout": 8.0, "max_attempts": 2 }), silent);
    set(&backend, "k", b"v").await;
    assert_eq!(within(backend.get(key("k"), &cx())).await.unwrap(), Some(Bytes::from_static(b"v")));
    assert_eq!(rewriter.count("GetItem"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_exchanges_are_under_way_than_configured() {
    let moto = Moto::start();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, highest) = (Arc::clone(&now), Arc::clone(&most));
    let rewrite = move |asked: &Asked| {
        let before = inside.fetch_add(1, Ordering::SeqCst);
        highest.fetch_max(before + 1, Ordering::SeqCst);
        let answer = asked.pass();
        inside.fetch_sub(1, Ordering::SeqCst);
        Some(answer)
    };
    let (_rewriter, backend) = behind(&moto, &json!({ "max_concurrency": 2 }), rewrite);
    let names: Vec<String> = (0..40).map(|number| format!("k{number}")).collect();
    let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    let deleted = backend.delete_many(&keys, &cx()).await.unwrap();
    assert!(deleted.into_iter().all(|deleted| !deleted.unwrap()));
    assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
}

#[tokio::test]
async fn a_closed_backend_refuses_and_does_not_hang() {
    let moto = Moto::start();
    let backend = open(&options(&moto.url()));
    set(&backend, "k", b"v").await;
    for _ in 0..2 {
        backend.close(&cx()).await.unwrap();
        let error = backend.get(key("k"), &cx()).await.unwrap_err();
        assert!(error.message().contains("closed"), "{error}");
    }
}

#[tokio::test]
async fn without_credentials_it_says_so() {
    let mut without = options("http://127.0.0.1:1");
    without.as_object_mut().unwrap().retain(|name, _| !name.contains("access_key"));
    let backend = open(&with(&without, &json!({ "profile": "no-such-profile-anywhere" })));
    let error = get_error(&backend).await;
    assert!(matches!(error.kind(), Kind::Auth | Kind::Config), "{error}");
    assert!(!error.message().is_empty());
}

/// What is said anywhere holds no key, no value and no credential.
#[tokio::test]
async fn nothing_secret_is_said() {
    let (_liar, backend) = liar(|asked| match asked.before {
        0 => Answer::error(400, "ValidationException", &asked.body.to_string()),
        1 => Answer::error(400, &"canary".repeat(20), ""),
        2 => Answer::error(400, "a canary", ""),
        _ => Answer::Whole(200, asked.body.to_string().into_bytes()),
    });
    for _ in 0..4 {
        let value = Bytes::from_static(b"canary-value");
        for error in [
            backend.get(key("canary-key"), &cx()).await.err(),
            backend.set(key("canary-key"), value, Ttl::Never, &cx()).await.err(),
            backend.delete(key("canary key"), &cx()).await.err(),
        ]
        .into_iter()
        .flatten()
        {
            let said = format!("{error} {error:?}");
            assert!(!said.contains("canary"), "{said}");
        }
    }
}
