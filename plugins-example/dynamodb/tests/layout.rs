//! The table as others see it: requests-cache and boto3 on one side, the backend on the other.

mod store;

use std::sync::Arc;

use cachekit_plugin::{Backend, Batch, Bytes, Cas, Clear, Expiry, Kind, Locks, Scan, SetItem, Ttl};
use cachekit_test_servers::moto::Moto;
use serde_json::{Value as Json, json};

use store::{cx, get, key, life, now, open, options, peer, set};

/// A table that requests-cache made.
fn table_of_requests_cache(moto: &Moto) -> Json {
    let options = store::with(&options(&moto.url()), &json!({ "create_table": false }));
    peer("rc-keys", &moto.url(), &options, &[]);
    options
}

fn put(moto: &Moto, options: &Json, item: Json) {
    peer("put", &moto.url(), options, &[&item.to_string()]);
}

#[tokio::test]
async fn what_requests_cache_wrote_is_read_and_the_reverse() {
    let moto = Moto::start();
    let options = table_of_requests_cache(&moto);
    let (backend, url) = (open(&options), moto.url());
    let end = (now() + 10_000).to_string();
    peer("rc-set", &url, &options, &["theirs", "00ff0a", &end]);
    peer("rc-set", &url, &options, &["for ever".replace(' ', "-").as_str(), ""]);

    assert_eq!(get(&backend, "theirs").await, Some(Bytes::from_static(b"\0\xff\n")));
    assert_eq!(get(&backend, "for-ever").await, Some(Bytes::new()));
    let left = Expiry::ttl(&backend, key("theirs"), &cx()).await.unwrap().unwrap().as_ms().unwrap();
    assert!((1..=10_000_000).contains(&left), "{left}");
    assert_eq!(Expiry::ttl(&backend, key("for-ever"), &cx()).await.unwrap(), Some(Ttl::Never));

    let before = now();
    backend.set(key("ours"), Bytes::from_static(b"\x01\x02"), life(5_000_000), &cx()).await.unwrap();
    let after = now();
    assert_eq!(peer("rc-get", &url, &options, &["ours"])["hex"], "0102");
    assert_eq!(peer("rc-keys", &url, &options, &[])["keys"], json!(["for-ever", "ours", "theirs"]));
    let item = peer("item", &url, &options, &["ours"]);
    assert_eq!(item["key"], json!({ "S": "ours" }));
    assert_eq!(item["value"], json!({ "B": "0102" }));
    let ttl: u64 = item["ttl"]["N"].as_str().unwrap().parse().unwrap();
    assert!((before + 5000..=after + 5001).contains(&ttl), "{ttl}");

    // Each removes what the other wrote, and hears the truth about it.
    assert_eq!(peer("rc-del", &url, &options, &["ours"])["deleted"], true);
    assert!(!backend.delete(key("ours"), &cx()).await.unwrap());
    assert!(backend.delete(key("theirs"), &cx()).await.unwrap());
    assert_eq!(peer("rc-del", &url, &options, &["theirs"])["deleted"], false);
}

#[tokio::test]
async fn text_is_read_as_its_bytes_and_a_document_is_not_read() {
    let moto = Moto::start();
    let options = table_of_requests_cache(&moto);
    let backend = open(&options);
    put(&moto, &options, json!({ "key": { "S": "text" }, "value": { "S": "caf\u{e9}" } }));
    assert_eq!(get(&backend, "text").await, Some(Bytes::from_static("caf\u{e9}".as_bytes())));
    for item in [
        json!({ "key": { "S": "other" }, "value": { "M": { "url": { "S": "https://example.org" } } } }),
        json!({ "key": { "S": "other" } }),
        json!({ "key": { "S": "other" }, "value": { "B": "00" }, "ttl": { "S": "tomorrow" } }),
    ] {
        put(&moto, &options, item.clone());
        assert_eq!(backend.get(key("other"), &cx()).await.unwrap_err().kind(), Kind::Corrupt, "{item}");
        let many = backend.get_many(&[key("other"), key("text")], &cx()).await.unwrap();
        assert_eq!(many[0].as_ref().unwrap_err().kind(), Kind::Corrupt, "{item}");
        assert!(many[1].as_ref().unwrap().is_some(), "one item's trouble is not its neighbour's");
    }
}

/// DynamoDB removes what has expired within days; moto never does.
#[tokio::test]
async fn an_expired_item_is_there_and_is_nowhere() {
    let moto = Moto::start();
    let options = table_of_requests_cache(&moto);
    let backend = open(&options);
    let gone = json!({ "key": { "S": "gone" }, "value": { "B": "00" }, "ttl": { "N": (now() - 1).to_string() } });
    put(&moto, &options, gone.clone());
    set(&backend, "here", b"v").await;
    assert_eq!(peer("rc-get", &moto.url(), &options, &["gone"])["hex"], "00", "it is in the table");

    assert_eq!(get(&backend, "gone").await, None);
    assert!(!backend.exists(key("gone"), &cx()).await.unwrap());
    assert_eq!(Expiry::ttl(&backend, key("gone"), &cx()).await.unwrap(), None);
    assert!(!backend.touch(key("gone"), life(60_000), &cx()).await.unwrap());
    assert_eq!(backend.get_version(key("gone"), &cx()).await.unwrap(), None);
    let many = backend.get_many(&[key("gone"), key("here")], &cx()).await.unwrap();
    assert!(many[0].as_ref().unwrap().is_none() && many[1].as_ref().unwrap().is_some());
    let page = backend.next(b"", None, 100, &cx()).await.unwrap();
    assert_eq!(page.items, [Bytes::from_static(b"here")]);
    // Removed, and yet there was nothing to remove.
    assert!(!backend.delete(key("gone"), &cx()).await.unwrap());
    assert_eq!(peer("rc-get", &moto.url(), &options, &["gone"])["hex"], Json::Null);
    put(&moto, &options, gone.clone());
    let deleted = backend.delete_many(&[key("gone"), key("here"), key("here")], &cx()).await.unwrap();
    assert_eq!(deleted.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [false, true, false]);
    // What is over may be written over by whoever wants nothing to be there.
    put(&moto, &options, gone.clone());
    assert!(backend.set_if(key("gone"), Bytes::from_static(b"new"), Ttl::Never, None, &cx()).await.unwrap());
    assert_eq!(get(&backend, "gone").await, Some(Bytes::from_static(b"new")));
    // And it is cleared away without being counted.
    put(&moto, &options, gone);
    set(&backend, "here", b"v").await;
    assert_eq!(Clear::clear(&backend, b"", &cx()).await.unwrap(), 1);
    assert_eq!(peer("rc-keys", &moto.url(), &options, &[])["keys"], json!([]));
}

#[tokio::test]
async fn versions_hold_for_items_of_other_writers_too() {
    let moto = Moto::start();
    let options = table_of_requests_cache(&moto);
    let (backend, url) = (open(&options), moto.url());
    let later = (now() + 1000).to_string();
    let set_if = async |version| {
        backend.set_if(key("k"), Bytes::from_static(b"ours"), Ttl::Never, Some(version), &cx()).await.unwrap()
    };
    let version = async || backend.get_version(key("k"), &cx()).await.unwrap().unwrap().1;

    peer("rc-set", &url, &options, &["k", "01", &later]);
    let first = version().await;
    assert_eq!(first, version().await, "looking is not writing");
    peer("rc-set", &url, &options, &["k", "02", &later]);
    assert!(!set_if(first).await, "another value");
    peer("rc-set", &url, &options, &["k", "01", &(now() + 2000).to_string()]);
    assert!(!set_if(first).await, "another end");
    peer("rc-set", &url, &options, &["k", "01", &later]);
    assert!(set_if(first).await, "the same again is no change");

    let ours = version().await;
    peer("rc-set", &url, &options, &["k", "6f757273"]);
    assert!(!set_if(ours).await, "our own version is gone with our item, although the bytes are the same");
    // An attribute of that name that is no version of ours.
    put(&moto, &options, json!({ "key": { "S": "k" }, "value": { "B": "03" }, "version": { "N": "3" } }));
    let foreign = version().await;
    put(&moto, &options, json!({ "key": { "S": "k" }, "value": { "B": "03" }, "version": { "N": "4" } }));
    assert!(set_if(foreign).await, "value and end are as they were seen");
    assert!(!set_if(foreign).await);
}

#[tokio::test]
async fn the_table_is_made_as_it_should_be_and_a_table_of_another_form_is_refused() {
    let moto = Moto::start();
    let (options, url) = (options(&moto.url()), moto.url());
    let (one, two) = (Arc::new(open(&options)), Arc::new(open(&options)));
    // Two at once: one makes it, and the other finds it.
    let (first, second) =
        tokio::join!(async { one.set(key("a"), Bytes::from_static(b"1"), Ttl::Never, &cx()).await }, async {
            two.set(key("b"), Bytes::from_static(b"2"), Ttl::Never, &cx()).await
        },);
    first.unwrap();
    second.unwrap();
    assert_eq!(
        peer("table", &url, &options, &[]),
        json!({
            "keys": [{ "AttributeName": "key", "KeyType": "HASH" }],
            "attributes": [{ "AttributeName": "key", "AttributeType": "S" }],
            "billing": "PAY_PER_REQUEST",
            "ttl": "ttl",
        })
    );

    // Found at the first use, with the option that names it.
    let other_key = open(&store::with(&options, &json!({ "key_attribute": "id" })));
    let error = other_key.get(key("a"), &cx()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.message().contains("key_attribute"), "{error}");
    let other_key = open(&store::with(&options, &json!({ "key_attribute": "id", "create_table": false })));
    let error = other_key.get(key("a"), &cx()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.message().contains("key_attribute"), "{error}");
}

#[tokio::test]
async fn a_table_that_is_missing_says_what_to_do() {
    let moto = Moto::start();
    let backend = open(&store::with(&options(&moto.url()), &json!({ "create_table": false })));
    for error in [
        backend.get(key("k"), &cx()).await.unwrap_err(),
        backend.set(key("k"), Bytes::new(), Ttl::Never, &cx()).await.unwrap_err(),
        backend.delete(key("k"), &cx()).await.unwrap_err(),
        Clear::clear(&backend, b"", &cx()).await.unwrap_err(),
        backend.get_many(&[key("k")], &cx()).await.unwrap().remove(0).unwrap_err(),
        backend.lock(key("k"), b"token", 1000, &cx()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(error.message().contains("create_table"), "{error}");
    }
}

#[tokio::test]
async fn leases_are_no_entries() {
    let moto = Moto::start();
    let options = options(&moto.url());
    let (backend, url) = (open(&options), moto.url());
    assert!(backend.lock(key("k"), b"secret", 3_600_000, &cx()).await.unwrap());
    set(&backend, "k", b"v").await;
    let keys = |page: cachekit_plugin::Page| page.items;
    assert_eq!(keys(backend.next(b"", None, 100, &cx()).await.unwrap()), [Bytes::from_static(b"k")]);
    assert_eq!(Clear::clear(&backend, b"", &cx()).await.unwrap(), 1);
    assert!(!backend.lock(key("k"), b"other", 3_600_000, &cx()).await.unwrap(), "clearing ends no lease");
    assert_eq!(peer("rc-keys", &url, &options, &[])["keys"], json!(["lock k"]));
    // DynamoDB removes it once it is over, should nobody give it back.
    let ttl: u64 = peer("item", &url, &options, &["lock k"])["ttl"]["N"].as_str().unwrap().parse().unwrap();
    assert!(ttl <= now() + 3601);
    assert!(backend.unlock(key("k"), b"secret", &cx()).await.unwrap());
    assert_eq!(peer("rc-keys", &url, &options, &[])["keys"], json!([]));
}

#[tokio::test]
async fn more_than_dynamodb_takes_at_a_time_is_cut_and_what_stands_twice_is_merged() {
    let moto = Moto::start();
    let backend = open(&options(&moto.url()));
    // More than two chunks of either kind, and every key twice.
    let names: Vec<String> = (0..130).map(|number| format!("k{number}")).collect();
    let value = |number: usize, write: &str| Bytes::from(format!("{number} {write}"));
    let item =
        |number: usize, write| SetItem { key: key(&names[number]), value: value(number, write), ttl: Ttl::Never };
    let items: Vec<_> = (0..130).map(|n| item(n, "first")).chain((0..130).map(|n| item(n, "last"))).collect();
    assert!(backend.set_many(&items, &cx()).await.unwrap().iter().all(Result::is_ok));

    let twice: Vec<_> = names.iter().chain(&names).map(|name| key(name)).collect();
    let found = backend.get_many(&twice, &cx()).await.unwrap();
    for (place, found) in found.into_iter().enumerate() {
        assert_eq!(found.unwrap(), Some(value(place % 130, "last")));
    }
    let deleted: Vec<bool> =
        backend.delete_many(&twice, &cx()).await.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(deleted.iter().filter(|deleted| **deleted).count(), 130);
    assert!(deleted[..130].iter().all(|deleted| *deleted), "the first of two removes it");
    assert!(backend.get_many(&twice, &cx()).await.unwrap().into_iter().all(|found| found.unwrap().is_none()));
}

#[tokio::test]
async fn what_one_item_of_a_batch_cannot_be_leaves_the_others_valid() {
    let moto = Moto::start();
    let backend = open(&options(&moto.url()));
    let too_large = Bytes::from(vec![0; backend.limits().max_value as usize + 1]);
    let item = |name, value: &Bytes| SetItem { key: key(name), value: value.clone(), ttl: Ttl::Never };
    let small = Bytes::from_static(b"v");
    let items = [item("a", &small), item("b", &too_large), item("no key", &small), item("c", &small)];
    let answers = backend.set_many(&items, &cx()).await.unwrap();
    let kinds: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().map(|error| error.kind())).collect();
    assert_eq!(kinds, [None, Some(Kind::TooLarge), Some(Kind::TooLarge), None]);
    assert_eq!(get(&backend, "a").await, Some(small.clone()));
    assert_eq!(get(&backend, "c").await, Some(small));
}

/// The longest of everything. The largest value that DynamoDB takes is computed in `src/item.rs`, because moto counts the base64 of
/// it.
#[tokio::test]
async fn the_largest_item_that_moto_takes_is_written_and_read() {
    let moto = Moto::start();
    let names = json!({ "value_attribute": "v".repeat(64), "ttl_attribute": "t".repeat(64), "version_attribute": "n".repeat(64), "max_value": 304_000 });
    let backend = open(&store::with(&options(&moto.url()), &names));
    let limits = backend.limits();
    let (name, value) = ("k".repeat(limits.max_key as usize), Bytes::from(vec![7; limits.max_value as usize]));
    backend.set(key(&name), value.clone(), life(u64::MAX), &cx()).await.unwrap();
    assert_eq!(get(&backend, &name).await, Some(value));
    assert!(backend.lock(key(&name), &[7; 64], 1000, &cx()).await.unwrap(), "its lease has a longer key");
}

/// Pages end at 1 MB of what was read, so a table of some megabytes takes several.
#[tokio::test]
async fn a_table_of_many_pages_is_listed_and_cleared_whole() {
    let moto = Moto::start();
    let backend = open(&options(&moto.url()));
    let value = Bytes::from(vec![1; 100_000]);
    let names: Vec<String> =
        (0..30).map(|number| format!("{}{number}", if number < 20 { "a:" } else { "b:" })).collect();
    let items: Vec<_> =
        names.iter().map(|name| SetItem { key: key(name), value: value.clone(), ttl: Ttl::Never }).collect();
    assert!(backend.set_many(&items, &cx()).await.unwrap().iter().all(Result::is_ok));
    let (mut found, mut cursor, mut pages) = (Vec::new(), None::<Bytes>, 0);
    loop {
        let page = backend.next(b"a:", cursor.as_deref(), 10_000, &cx()).await.unwrap();
        found.extend(page.items);
        pages += 1;
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert!(pages > 1, "moto cut no page");
    found.sort();
    let mut wanted: Vec<Bytes> = names[..20].iter().map(|name| Bytes::from(name.clone())).collect();
    wanted.sort();
    assert_eq!(found, wanted);
    assert_eq!(Clear::clear(&backend, b"a:", &cx()).await.unwrap(), 20);
    assert_eq!(Clear::clear(&backend, b"", &cx()).await.unwrap(), 10);
}
