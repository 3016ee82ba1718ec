//! The two stores: every exchange has a deadline, and is tried again where trying again can help.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cachekit::codec::Refusal;
use cachekit::{Cache, Error, within};
use cachekit_plugin::{
    Answers, Backend, BackendError, Cx, Deadline, Enumerates, Key, Kind, Limits, Operation, Page, Retry, Scan, SetItem,
    Ttl,
};
use futures_util::{StreamExt, stream};

use super::entry::{Write, by_its_own_word, sooner};
use super::tally::Reason;
use super::{PAUSE, TRIES};
use crate::exit::Failure;

/// Single operations under way where a store has no batches.
const IN_FLIGHT: usize = 16;

/// How long an exchange may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(Duration);

impl Patience {
    pub(super) fn new(deadline: Duration) -> Self {
        Self(deadline)
    }

    /// Does the work, again if its error says that this may help.
    async fn exchange<T>(
        self,
        operation: Operation,
        work: impl AsyncFn(&Cx<'_>) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let mut tried = 0;
        loop {
            let deadline = Deadline::after(self.0);
            let cx = Cx::new(deadline);
            let error = match within(deadline, operation, work(&cx)).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            tried += 1;
            let pause = match error.retry() {
                Retry::No => return Err(error),
                _ if tried == TRIES => return Err(error),
                Retry::Now => PAUSE * tried,
                Retry::After(pause) => pause.min(self.0),
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// The store that is read.
pub(super) struct Source {
    backend: Arc<dyn Backend>,
    limits: Limits,
    patience: Patience,
}

impl Source {
    /// Refuses stores that cannot say what they hold.
    pub(super) fn new(backend: Arc<dyn Backend>, patience: Patience) -> Result<Self, Failure> {
        let limits = backend.limits();
        if backend.scan().is_none() || limits.enumerates == Enumerates::No {
            let why = "the source cannot list its entries, so there is no way to copy from it (Memcached and cachekit.io \
                       cannot; Redis and files can)";
            return Err(Failure::Usage(why.into()));
        }
        Ok(Self { backend, limits, patience })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn enumerates(&self) -> Enumerates {
        self.limits.enumerates
    }

    /// Which run of its server it is, where the store says so: the cursors of a Redis are no good in the next one, and going
    /// on with one would leave out entries without a word.
    pub(super) async fn run_id(&self) -> Result<String, BackendError> {
        let health =
            self.patience.exchange(Operation::Health, async |cx: &Cx<'_>| self.backend.health(cx).await).await?;
        Ok(health.details.get("run_id").and_then(|id| id.as_str()).unwrap_or_default().to_owned())
    }

    fn scan(&self) -> Result<&dyn Scan, BackendError> {
        self.backend.scan().ok_or_else(|| BackendError::unsupported(Operation::Scan))
    }

    pub(super) async fn page(&self, prefix: &str, cursor: Option<&[u8]>, max: usize) -> Result<Page, BackendError> {
        let page = async |cx: &Cx<'_>| self.scan()?.next(prefix.as_bytes(), cursor, max, cx).await;
        self.patience.exchange(Operation::Scan, page).await
    }

    /// The values of a page, in its order.
    pub(super) async fn read(&self, items: &[Bytes]) -> Answers<Option<Bytes>> {
        if let (Enumerates::Keys, Some(batch)) = (self.enumerates(), self.backend.batch()) {
            let keys: Vec<Key<'_>> = items.iter().map(|key| Key::from_wire(key)).collect();
            let read = async |cx: &Cx<'_>| batch.get_many(&keys, cx).await;
            let answers = self.patience.exchange(Operation::GetMany, read).await;
            return each(answers, items.len(), Operation::GetMany);
        }
        let reads = items.iter().map(|item| {
            let read = async move |cx: &Cx<'_>| self.scan()?.read(item, cx).await;
            self.patience.exchange(Operation::Read, read)
        });
        stream::iter(reads).buffered(IN_FLIGHT).collect().await
    }

    /// How long each entry has: from the store, or by its own word, or what was given for such cases.
    pub(super) async fn lives(
        &self,
        writes: &[Write],
        unknown: Option<Duration>,
    ) -> Vec<Result<Result<Ttl, Reason>, BackendError>> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let asks = writes.iter().map(async |write| {
            let own = by_its_own_word(write.expires_ms, now_ms);
            let Some(expiry) = self.backend.ttl() else {
                let given = unknown.and_then(Ttl::from_duration).ok_or(Reason::UnknownLife);
                return Ok(own.unwrap_or(given));
            };
            let ask = async |cx: &Cx<'_>| expiry.ttl(Key::from_wire(&write.from), cx).await;
            let left = self.patience.exchange(Operation::Ttl, ask).await?;
            Ok(left.ok_or(Reason::Gone).and_then(|left| sooner(left, own)))
        });
        stream::iter(asks).buffered(IN_FLIGHT).collect().await
    }

    /// It was only read: what its ending has to say is of no interest.
    pub(super) async fn close(&self) {
        let _ = self.patience.exchange(Operation::Close, async |cx: &Cx<'_>| self.backend.close(cx).await).await;
    }
}

/// The store that is written.
pub(super) struct Target {
    backend: Arc<dyn Backend>,
    /// What knows how entries have to look on it.
    cache: Cache,
    limits: Limits,
    patience: Patience,
}

impl Target {
    pub(super) fn new(backend: Arc<dyn Backend>, patience: Patience) -> Result<Self, Failure> {
        let cache = Cache::builder().backend(Arc::clone(&backend)).without_l1().strict(true).deadline(patience.0);
        Ok(Self { cache: cache.build()?, limits: backend.limits(), backend, patience })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Gives an entry of ours what it needs to be in force on this store.
    pub(super) async fn adopt(&self, write: &mut Write) -> Result<Result<(), Reason>, Error> {
        let Some(wire) = &write.wire else { return Ok(Ok(())) };
        match self.cache.adopted(wire, &write.stored).await {
            Ok(stored) => write.stored = stored,
            Err(Error::Refused(Refusal::Expired)) => return Ok(Err(Reason::Gone)),
            Err(Error::Refused(_)) => return Ok(Err(Reason::Unstamped)),
            Err(error) => return Err(error),
        }
        Ok(Ok(()))
    }

    pub(super) async fn write(&self, writes: &[Write]) -> Answers<()> {
        let single = async |write: &Write| {
            let set = async |cx: &Cx<'_>| {
                self.backend.set(Key::from_wire(&write.to), write.stored.clone(), write.ttl, cx).await
            };
            self.patience.exchange(Operation::Set, set).await
        };
        let Some(batch) = self.backend.batch() else {
            return stream::iter(writes.iter().map(single)).buffered(IN_FLIGHT).collect().await;
        };
        let item = |write: &Write| (write.to.clone(), write.stored.clone(), write.ttl);
        let owned: Vec<_> = writes.iter().map(item).collect();
        let items: Vec<SetItem<'_>> = owned
            .iter()
            .map(|(key, value, ttl)| SetItem { key: Key::from_wire(key), value: value.clone(), ttl: *ttl })
            .collect();
        let set = async |cx: &Cx<'_>| batch.set_many(&items, cx).await;
        let answers = self.patience.exchange(Operation::SetMany, set).await;
        let mut answers = each(answers, writes.len(), Operation::SetMany);
        // What failed in company gets a chance alone, with its own tries.
        for (write, answer) in writes.iter().zip(&mut answers) {
            if answer.as_ref().is_err_and(|error| error.retry() != Retry::No) {
                *answer = single(write).await;
            }
        }
        answers
    }

    pub(super) async fn read_back(&self, writes: &[Write]) -> Answers<Option<Bytes>> {
        let reads = writes.iter().map(async |write| {
            let get = async |cx: &Cx<'_>| self.backend.get(Key::from_wire(&write.to), cx).await;
            self.patience.exchange(Operation::Get, get).await
        });
        stream::iter(reads).buffered(IN_FLIGHT).collect().await
    }

    /// A store may keep writes back until it is ended.
    pub(super) async fn close(&self) -> Result<(), BackendError> {
        self.patience.exchange(Operation::Close, async |cx: &Cx<'_>| self.backend.close(cx).await).await
    }
}

/// One answer for each item, whatever the store gave.
fn each<T>(answers: Result<Answers<T>, BackendError>, len: usize, operation: Operation) -> Answers<T> {
    let repeat = |kind: Kind, retry: Retry, message: &str| -> Answers<T> {
        let again = || BackendError::new(kind, operation, message.to_owned()).with_retry(retry);
        (0..len).map(|_| Err(again())).collect()
    };
    match answers {
        Ok(answers) if answers.len() == len => answers,
        Ok(_) => repeat(Kind::Internal, Retry::No, "the store gave another number of answers than there were items"),
        Err(error) => repeat(error.kind(), Retry::No, error.message()),
    }
}
