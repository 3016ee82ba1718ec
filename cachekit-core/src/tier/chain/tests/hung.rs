//! A front that hangs holds the turns of what is being written to it. Here the test holds them, or the front, and lets go when it
//! likes; writers have no patience at all.

use cachekit_plugin::{Deadline, SetItem, Version};

use super::*;
use crate::coherence::DOUBT;

const NAME: &[u8] = K.as_bytes();

/// A chain whose writers wait for no turn.
fn impatient(bench: &Bench) -> Arc<Chain> {
    let mut chain = chain(bench, as_it_is);
    Arc::get_mut(&mut chain.inner).unwrap().patience = |_| Deadline::after(Duration::ZERO);
    Arc::new(chain)
}

async fn settle(chain: &Chain) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while chain.running() > 0 {
        assert!(std::time::Instant::now() < end, "not within a minute");
        tokio::task::yield_now().await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Write {
    Set,
    SetMany,
    SetIf,
    Delete,
    DeleteMany,
    Clear,
}

impl Write {
    async fn run(self, chain: &Chain, new: &Bytes, version: Version, cx: &Cx<'_>) -> Result<(), BackendError> {
        let (key, batch) = (Key::from_wire(NAME), chain.batch().unwrap());
        match self {
            Self::Set => chain.set(key, new.clone(), Ttl::Never, cx).await,
            Self::SetMany => {
                let item = SetItem { key, value: new.clone(), ttl: Ttl::Never };
                batch.set_many(&[item], cx).await?.remove(0)
            }
            Self::SetIf => {
                let cas = Backend::cas(chain).unwrap();
                assert!(cas.set_if(key, new.clone(), Ttl::Never, Some(version), cx).await?);
                Ok(())
            }
            Self::Delete => chain.delete(key, cx).await.map(drop),
            Self::DeleteMany => batch.delete_many(&[key], cx).await?.remove(0).map(drop),
            Self::Clear => Backend::clear(chain).unwrap().clear(b"ck:default:", cx).await.map(drop),
        }
    }
}

#[tokio::test]
async fn a_turn_that_does_not_come_keeps_no_write_from_the_last_tier_and_its_holder_brings_nothing_back() {
    for write in [Write::Set, Write::SetMany, Write::SetIf, Write::Delete, Write::DeleteMany, Write::Clear] {
        let bench = Bench::new();
        let chain = impatient(&bench);
        let (old, new) = (Bytes::from_static(b"old"), Bytes::from_static(b"new"));
        let (key, cx) = (Key::from_wire(NAME), Cx::within(Duration::from_secs(3600)));
        bench.last.put(K, &old).await;
        let version = bench.last.inner.cas().unwrap().get_version(key, &cx).await.unwrap().unwrap().1;
        // A promotion has read what is old, and is writing it to a front that hangs.
        let turn = chain.inner.stripes.try_turn(NAME).unwrap();
        write.run(&chain, &new, version, &cx).await.unwrap_or_else(|error| panic!("{write:?}: {error}"));
        let stands = matches!(write, Write::Set | Write::SetMany | Write::SetIf).then_some(new);
        assert_eq!(bench.last.raw(K).await, stands, "{write:?}");
        // Its copy lands, and is of no use to anybody: while it holds the turn, afterwards, and when the doubt is over.
        for step in ["while it holds the turn", "afterwards", "when others have had time"] {
            bench.front.put(K, &old).await;
            assert_eq!(chain.get(key, &cx).await.unwrap(), stands, "{write:?} {step}");
        }
        chain.inner.leave(turn, &[NAME]);
        assert_eq!(chain.get(key, &cx).await.unwrap(), stands, "{write:?}");
        settle(&chain).await;
        assert_eq!(bench.front.raw(K).await, Some(old), "{write:?}: nothing settles a doubt before its time");
        // Then the copy is replaced, and believed.
        bench.clock.advance(DOUBT + super::super::DEFAULT_FRONT_TTL);
        bench.front.inner.delete(key, &cx).await.unwrap();
        assert_eq!(chain.get(key, &cx).await.unwrap(), stands, "{write:?}");
        settle(&chain).await;
        assert_eq!(bench.front.raw(K).await, stands, "{write:?}");
        let asked = bench.last.gets.load(Ordering::SeqCst);
        assert_eq!(chain.get(key, &cx).await.unwrap(), stands, "{write:?}");
        let again = bench.last.gets.load(Ordering::SeqCst) - asked;
        assert_eq!(again, u32::from(stands.is_none()), "{write:?}: the front answers again");
    }
}

#[tokio::test]
async fn a_promotion_that_begins_while_somebody_passes_brings_nothing_back() {
    let bench = Bench::new();
    let chain = impatient(&bench);
    let (key, cx) = (Key::from_wire(NAME), Cx::within(Duration::from_secs(3600)));
    bench.last.put(K, &Bytes::from_static(b"old")).await;
    let turn = chain.inner.stripes.try_turn(NAME).unwrap();
    bench.last.hang(Operation::Delete);
    let deleting = tokio::spawn({
        let chain = Arc::clone(&chain);
        async move { chain.delete(Key::from_wire(NAME), &Cx::within(Duration::from_secs(3600))).await }
    });
    bench.last.arrived.notified().await;
    chain.inner.leave(turn, &[NAME]);
    // The turn is free again, and the deletion has not reached the store.
    assert!(chain.get(key, &cx).await.unwrap().is_some());
    settle(&chain).await;
    assert!(!bench.front.has(K).await, "what is in doubt is not promoted");
    // However long it takes: by now a promotion may replace what was in doubt.
    bench.clock.advance(DOUBT);
    bench.front.hang(Operation::Set);
    assert!(chain.get(key, &cx).await.unwrap().is_some());
    bench.front.arrived.notified().await;
    bench.last.open.notify_one();
    assert!(deleting.await.unwrap().unwrap());
    bench.front.open.notify_one();
    settle(&chain).await;
    assert_eq!(chain.get(key, &cx).await.unwrap(), None);
}

#[tokio::test]
async fn a_writer_that_was_passed_believes_what_it_leaves_as_little_however_long_it_took() {
    // Where the copy comes behind, it is its removal that hangs.
    for (policy, hangs) in [(WritePolicy::Through, Operation::Set), (WritePolicy::Behind, Operation::Delete)] {
        what_a_passed_writer_leaves(policy, hangs).await;
    }
}

async fn what_a_passed_writer_leaves(policy: WritePolicy, hangs: Operation) {
    let bench = Bench::new();
    let mut chain = chain(&bench, |spec| spec.write(policy));
    Arc::get_mut(&mut chain.inner).unwrap().patience = |_| Deadline::after(Duration::ZERO);
    let chain = Arc::new(chain);
    let (key, cx) = (Key::from_wire(NAME), Cx::within(Duration::from_secs(3600)));
    bench.front.hang(hangs);
    let setting = tokio::spawn({
        let chain = Arc::clone(&chain);
        let (old, cx) = (Bytes::from_static(b"old"), Cx::within(Duration::from_secs(3600)));
        async move { chain.set(Key::from_wire(NAME), old, Ttl::Never, &cx).await }
    });
    bench.front.arrived.notified().await;
    assert!(chain.delete(key, &cx).await.unwrap());
    // As long as any doubt lasts, and every copy of then.
    bench.clock.advance(DOUBT + super::super::DEFAULT_FRONT_TTL);
    bench.front.open.notify_one();
    setting.await.unwrap().unwrap();
    settle(&chain).await;
    assert_eq!(bench.front.has(K).await, policy == WritePolicy::Through, "it has landed behind the deletion");
    assert_eq!(chain.get(key, &cx).await.unwrap(), None);
}

#[tokio::test]
async fn a_writer_without_time_touches_nothing_and_one_with_time_waits_for_half_of_it() {
    let bench = Bench::new();
    let chain = chain(&bench, as_it_is);
    bench.last.put(K, &Bytes::from_static(b"old")).await;
    let turn = chain.inner.stripes.try_turn(NAME).unwrap();
    let cx = Cx::new(Deadline::after(Duration::ZERO));
    let error = chain.delete(Key::from_wire(NAME), &cx).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(Backend::clear(&chain).unwrap().clear(b"ck:", &cx).await.is_err());
    assert!(bench.last.has(K).await);
    assert_eq!(chain.stats()[0].distrusted, 0);
    drop(turn);
    let patience = (chain.inner.patience)(Deadline::after(Duration::from_secs(1000))).remaining().unwrap();
    assert!(patience <= Duration::from_secs(500) && !patience.is_zero());
}
