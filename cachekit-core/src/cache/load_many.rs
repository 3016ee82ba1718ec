//! Loading several keys with one call of one loader.
//!
//! Each key goes the way of a single load, so that everything holds that holds there: its flight, which other callers may join or
//! lead, its fill lock, its fence. Only the loader is called for all of them together: a key that needs it says so and waits,
//! and when every key of the batch is found or waits, it runs. A key that somebody else is loading is waited for, and does not
//! hold up the others for long; should nobody load it in the end, the loader is called once more.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use cachekit_plugin::{BackendError, Deadline, Operation};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;

use super::seen::Wanted;
use super::{Cache, LoadOptions, Value};
use crate::error::{Error, LoadError};
use crate::guard::deadline::within;
use crate::guard::flight;

/// How long the loader waits for keys of the batch that others are busy with, after the first that needs it.
const STRAGGLERS: Duration = Duration::from_millis(10);

/// An answer per key, in the order of the keys that were asked for.
pub type Loaded<T, E> = Vec<Result<Arc<T>, LoadError<E>>>;

impl Cache {
    /// The values of `keys`, in their order; those that are missing are loaded together. The loader gets each missing key once
    /// and answers in the order it got them; for a key that has no value it answers `None`, and that is kept nowhere.
    ///
    /// ```
    /// use cachekit_core::Cache;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let cache = Cache::builder().build()?;
    /// let lengths = cache
    ///     .get_or_load_many(&["one", "three", "one"], |missing: Vec<&str>| async move {
    ///         assert_eq!(missing, ["one", "three"]);
    ///         missing.iter().map(|word| Some(word.len())).collect()
    ///     })
    ///     .await?;
    /// let lengths: Vec<usize> = lengths.into_iter().flatten().map(|length| *length).collect();
    /// assert_eq!(lengths, [3, 5, 3]);
    /// # Ok::<(), cachekit_core::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Cache::get`], [`Error::LoadTimeout`], and [`Error::BatchAnswers`] if the loader gave more or fewer answers than it got
    /// keys.
    pub async fn get_or_load_many<T, K, F, Fut>(&self, keys: &[K], mut load: F) -> Result<Vec<Option<Arc<T>>>, Error>
    where
        T: Value,
        K: AsRef<[u8]> + Clone,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Vec<Option<T>>>,
    {
        let load = |missing| {
            let answers = load(missing);
            async move { Ok(answers.await.into_iter().map(|value| value.ok_or(Nothing)).collect()) }
        };
        let loaded = self.try_get_or_load_many(keys, LoadOptions::default(), load).await?;
        loaded
            .into_iter()
            .map(|answer| match answer {
                Ok(value) => Ok(Some(value)),
                Err(LoadError::Loader(_)) => Ok(None),
                Err(LoadError::Timeout(after)) => Err(Error::LoadTimeout(after)),
                Err(LoadError::Cache(error)) => Err(error),
            })
            .collect()
    }

    /// As [`Cache::get_or_load_many`], with options, for a loader that can fail: for a key, or altogether.
    ///
    /// The exchanges with the second tier are those of as many single loads, at the same time.
    ///
    /// # Errors
    /// As [`Cache::get`] for the look at all keys, and as [`Cache::get_or_load_with`] for options that cannot work; what happened
    /// to one key is its answer.
    pub async fn try_get_or_load_many<T, E, K, F, Fut>(
        &self,
        keys: &[K],
        options: LoadOptions,
        mut load: F,
    ) -> Result<Loaded<T, E>, Error>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        K: AsRef<[u8]> + Clone,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<Vec<Result<T, E>>, E>>,
    {
        options.check(self.near.settings.default_ttl)?;
        // Duplicates are asked for once.
        let mut places: HashMap<&[u8], usize> = HashMap::new();
        let mut wanted: Vec<&K> = Vec::new();
        let of: Vec<usize> = keys
            .iter()
            .map(|key| {
                *places.entry(key.as_ref()).or_insert_with(|| {
                    wanted.push(key);
                    wanted.len() - 1
                })
            })
            .collect();
        let found = self.get_many::<T, _>(&wanted).await?;
        let mut answers: Vec<Option<Answer<T, E>>> = found.into_iter().map(|value| value.map(Ok)).collect();

        let desk = Desk::<T, E>::default();
        let mut jobs: FuturesUnordered<_> = (0..wanted.len())
            .filter(|at| answers[*at].is_none())
            .map(|at| {
                let (desk, options, key) = (&desk, options.clone(), wanted[at]);
                async move { (at, self.load_one(key.as_ref(), options, || desk.wait(at)).await) }
            })
            .collect();
        let mut running: Option<Running<Fut, T, E>> = None;
        let mut stragglers: Option<Pause> = None;
        std::future::poll_fn(|context: &mut Context<'_>| {
            loop {
                loop {
                    match jobs.poll_next_unpin(context) {
                        Poll::Ready(Some((at, answer))) => answers[at] = Some(answer),
                        Poll::Ready(None) => return Poll::Ready(()),
                        Poll::Pending => break,
                    }
                }
                if let Some(batch) = &mut running {
                    if batch.poll(context, &self.engine.counters).is_pending() {
                        return Poll::Pending;
                    }
                    running = None;
                    continue;
                }
                let waiting = desk.waiting();
                if waiting == 0 {
                    return Poll::Pending;
                }
                if waiting < jobs.len() {
                    let wait = stragglers.get_or_insert_with(|| {
                        Box::pin(within(Deadline::after(STRAGGLERS), Operation::Get, std::future::pending()))
                    });
                    if wait.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                }
                stragglers = None;
                let batch = desk.take();
                self.engine.counters.batch_loads.add();
                self.engine.counters.batch_keys.add_n(batch.len() as u64);
                let missing = batch.iter().map(|waiter| wanted[waiter.at].clone()).collect();
                running = Some(Running { load: Box::pin(load(missing)), batch });
            }
        })
        .await;
        drop(jobs);
        let mut left = vec![0_usize; answers.len()];
        of.iter().for_each(|at| left[*at] += 1);
        let answer = |at: usize| {
            left[at] -= 1;
            // The last who asked for a key gets the answer itself.
            answer_of(if left[at] == 0 { answers[at].take() } else { answers[at].as_ref().map(again) })
        };
        Ok(of.into_iter().map(answer).collect())
    }

    /// One key, the way of every load.
    async fn load_one<T, E, F, Fut>(&self, key: &[u8], options: LoadOptions, load: F) -> Result<Arc<T>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let at = self.at(key)?;
        let wanted = Wanted { options, nothing: false };
        self.load_here(&at, &wanted, move || async move { load().await.map(Some) }).await
    }
}

/// What one key of a batch ends with.
type Answer<T, E> = Result<Arc<T>, LoadError<Shared<E>>>;
/// Ends by its deadline.
type Pause = Pin<Box<dyn Future<Output = Result<(), BackendError>> + Send>>;

/// Where keys wait for the loader.
struct Desk<T, E>(Mutex<Vec<Waiter<T, E>>>);

struct Waiter<T, E> {
    at: usize,
    /// The flight that this key leads, so that a loader that asks for it is recognised.
    flight: Option<flight::Led>,
    answer: oneshot::Sender<Result<T, Shared<E>>>,
}

impl<T, E> Default for Desk<T, E> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T, E> Desk<T, E> {
    async fn wait(&self, at: usize) -> Result<T, Shared<E>> {
        let (answer, answered) = oneshot::channel();
        self.lock().push(Waiter { at, flight: flight::led(), answer });
        // Whoever took it either answers or is dropped together with this.
        answered.await.unwrap_or(Err(Shared(Failed::Unanswered)))
    }

    fn waiting(&self) -> usize {
        let mut waiters = self.lock();
        // A load that ran into its timeout waits no more.
        waiters.retain(|waiter| !waiter.answer.is_closed());
        waiters.len()
    }

    fn take(&self) -> Vec<Waiter<T, E>> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiter<T, E>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call of the loader.
struct Running<Fut, T, E> {
    load: Pin<Box<Fut>>,
    batch: Vec<Waiter<T, E>>,
}

impl<Fut, T, E> Running<Fut, T, E>
where
    Fut: Future<Output = Result<Vec<Result<T, E>>, E>>,
{
    fn poll(&mut self, context: &mut Context<'_>, counters: &crate::observe::Counters) -> Poll<()> {
        let led: Vec<flight::Led> = self.batch.iter().filter_map(|waiter| waiter.flight).collect();
        let Poll::Ready(answers) = flight::under(&led, || self.load.as_mut().poll(context)) else {
            return Poll::Pending;
        };
        let batch = std::mem::take(&mut self.batch);
        let asked = batch.len();
        let whole = match answers {
            Ok(answers) if answers.len() == asked => {
                for (waiter, answer) in batch.into_iter().zip(answers) {
                    // Nobody may be there any more; then the value is nobody's.
                    let _ = waiter.answer.send(answer.map_err(|error| Shared(Failed::Loader(Arc::new(error)))));
                }
                return Poll::Ready(());
            }
            // Which answer belongs to which key is anybody's guess.
            Ok(answers) => Failed::Answers { asked, got: answers.len() },
            Err(error) => Failed::Loader(Arc::new(error)),
        };
        counters.batch_failures.add();
        for waiter in batch {
            let _ = waiter.answer.send(Err(Shared(whole.clone())));
        }
        Poll::Ready(())
    }
}

/// The error of a batch, which may be that of many keys.
struct Shared<E>(Failed<E>);

enum Failed<E> {
    Loader(Arc<E>),
    Answers { asked: usize, got: usize },
    Unanswered,
}

impl<E> Clone for Failed<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Loader(error) => Self::Loader(Arc::clone(error)),
            Self::Answers { asked, got } => Self::Answers { asked: *asked, got: *got },
            Self::Unanswered => Self::Unanswered,
        }
    }
}

impl<E: fmt::Display> fmt::Display for Shared<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Failed::Loader(error) => error.fmt(f),
            Failed::Answers { asked, got } => write!(f, "{got} answers to {asked} keys"),
            Failed::Unanswered => f.write_str("the batch was given up"),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Shared<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Failed::Loader(error) => error.fmt(f),
            Failed::Answers { asked, got } => write!(f, "Answers({got} of {asked})"),
            Failed::Unanswered => f.write_str("Unanswered"),
        }
    }
}

/// What a loader without errors answers for a key that has no value.
#[derive(Debug, thiserror::Error)]
#[error("there is no such value")]
struct Nothing;

/// The answer of a key, to one of those who asked for it.
fn answer_of<T, E>(answer: Option<Answer<T, E>>) -> Result<Arc<T>, LoadError<E>>
where
    E: fmt::Debug + fmt::Display,
{
    match answer {
        Some(Ok(value)) => Ok(value),
        Some(Err(LoadError::Timeout(after))) => Err(LoadError::Timeout(after)),
        Some(Err(LoadError::Loader(shared))) => Err(match &shared.0 {
            Failed::Loader(error) => LoadError::Loader(Arc::clone(error)),
            Failed::Answers { asked, got } => Error::BatchAnswers { asked: *asked, got: *got }.into(),
            Failed::Unanswered => Error::Internal("a batch was given up before its keys").into(),
        }),
        Some(Err(LoadError::Cache(error))) => Err(error.into()),
        None => Err(Error::Internal("a batch ended without an answer to one of its keys").into()),
    }
}

/// The same answer, for a key that was asked for twice.
fn again<T, E>(answer: &Answer<T, E>) -> Answer<T, E>
where
    E: fmt::Debug + fmt::Display,
{
    match answer {
        Ok(value) => Ok(Arc::clone(value)),
        Err(LoadError::Loader(shared)) => Err(LoadError::Loader(Arc::clone(shared))),
        Err(LoadError::Timeout(after)) => Err(LoadError::Timeout(*after)),
        Err(LoadError::Cache(error)) => Err(error.again().into()),
    }
}
