//! Work that nobody waits for: refreshes, promotions, writes behind.
//!
//! It protects the host from a cache that works more than its callers ask for: at most so many tasks run at once, one
//! more is refused, and whoever wanted it counts that. A task runs on the runtime of the caller whose call began it,
//! because its loader may need that runtime's reactor; where there is none, on the engine's own thread
//! (`guard/deadline.rs`), which starts when it is first needed.
//!
//! Two kinds end differently. A *spare* task (a refresh, a promotion) improves what is there, so it is dropped when the
//! cache closes. An *owed* one (a write behind) was promised to somebody: `close` waits for it until its deadline, and
//! says how many it gave up; the values that were lost with them are counted where they wait (`behind.rs`). When the last
//! handle of a cache goes without `close`, both kinds are dropped, as a future that nobody polls would be.
//!
//! A child made by `fork()` has none of its parent's tasks: it begins with an empty table.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cachekit_plugin::{Deadline, Operation, fork};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::guard::deadline::{background as own_runtime, within};

/// Refreshes and promotions of one cache that run at once: the family's 32.
pub(crate) const DEFAULT_SPARE: usize = 32;
/// Tasks of one cache that write behind at once. More than `behind.rs` has lanes, which bound them: so a cache that is closed
/// is alone in refusing what is owed.
pub(crate) const DEFAULT_OWED: usize = 64;

/// What a task is to those who wait for the end of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Nobody loses anything if it never finishes.
    Spare,
    /// Somebody was told that it happens.
    Owed,
}

/// Why a task was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotBegun {
    /// As many as allowed are running.
    #[error("too many tasks run in the background")]
    Full,
    /// The cache has ended.
    #[error("the cache is closed")]
    Closed,
}

/// The tasks of one cache.
pub(crate) struct Background {
    table: Arc<Table>,
}

struct Table {
    most: [usize; 2],
    state: Mutex<State>,
    /// A task has ended.
    ended: Notify,
}

struct State {
    /// The process these tasks live in.
    process: u32,
    next: u64,
    closed: bool,
    tasks: HashMap<u64, Task>,
}

struct Task {
    errand: Errand,
    /// `None` while it is being handed to its runtime.
    abort: Option<AbortHandle>,
}

/// A task's place in the table, given back however it ends: done, dropped or by a panic.
pub(crate) struct Place {
    table: Arc<Table>,
    process: u32,
    id: u64,
}

impl Background {
    pub(crate) fn new(most_spare: usize, most_owed: usize) -> Self {
        let state = State { process: fork::generation(), next: 0, closed: false, tasks: HashMap::new() };
        Self {
            table: Arc::new(Table { most: [most_spare, most_owed], state: Mutex::new(state), ended: Notify::new() }),
        }
    }

    /// Begins a task, unless too many are running. It may hold a [`Cache`](crate::Cache) of its own only as a
    /// [borrowed handle](crate::Cache::borrowed): otherwise the last handle would never go.
    pub(crate) fn spawn(
        &self,
        errand: Errand,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), NotBegun> {
        self.begin(self.place(errand)?, work);
        Ok(())
    }

    /// Room for one task, unless too many are running: for who must know before it lets go of the work.
    pub(crate) fn place(&self, errand: Errand) -> Result<Place, NotBegun> {
        self.table.take(errand)
    }

    /// Begins a task in its place.
    pub(crate) fn begin(&self, place: Place, work: impl Future<Output = ()> + Send + 'static) {
        let id = place.id;
        // The place is part of the task, so it is given back before or after the handle is noted, never not.
        let work = async move {
            let _place = place;
            work.await;
        };
        let runtime = Handle::try_current().unwrap_or_else(|_| own_runtime());
        let abort = runtime.spawn(work).abort_handle();
        let mut state = self.table.lock();
        let closed = state.closed;
        let begins = match state.tasks.get_mut(&id) {
            Some(task) => {
                task.abort = Some(abort.clone());
                !(closed && task.errand == Errand::Spare)
            }
            // It has ended already, or everything was abandoned meanwhile.
            None => false,
        };
        drop(state);
        if !begins {
            abort.abort();
        }
    }

    /// How many tasks run.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.table.lock().tasks.len()
    }

    /// Begins nothing more, drops what is spare, waits until `deadline` for what is owed and for the end of what was dropped,
    /// drops the rest of it, and returns how many owed tasks that were.
    pub(crate) async fn close(&self, deadline: Deadline) -> u64 {
        // They stay in the table until they have gone, which is not when they are told to: what they leave behind is not
        // known before.
        let spare: Vec<AbortHandle> = {
            let mut state = self.table.lock();
            state.closed = true;
            let spare = state.tasks.values().filter(|task| task.errand == Errand::Spare);
            spare.filter_map(|task| task.abort.clone()).collect()
        };
        spare.iter().for_each(AbortHandle::abort);
        let all_done = async {
            loop {
                let mut ended = pin!(self.table.ended.notified());
                ended.as_mut().enable();
                if self.table.lock().tasks.is_empty() {
                    return Ok(());
                }
                ended.await;
            }
        };
        if within(deadline, Operation::Close, all_done).await.is_ok() {
            return 0;
        }
        self.abandon()
    }

    /// Drops every task, and returns how many of them were owed. The last handle has gone.
    pub(crate) fn abandon(&self) -> u64 {
        let all = {
            let mut state = self.table.lock();
            state.closed = true;
            state.take_out(|_| true)
        };
        let owed = all.iter().filter(|task| task.errand == Errand::Owed).count() as u64;
        abort(all);
        owed
    }
}

/// Outside of the lock: a task that is dropped gives back its place.
fn abort(tasks: Vec<Task>) {
    for task in tasks {
        if let Some(abort) = task.abort {
            abort.abort();
        }
    }
}

impl Table {
    fn take(self: &Arc<Self>, errand: Errand) -> Result<Place, NotBegun> {
        let mut state = self.lock();
        if state.closed {
            return Err(NotBegun::Closed);
        }
        let running = state.tasks.values().filter(|task| task.errand == errand).count();
        if running >= self.most[errand as usize] {
            return Err(NotBegun::Full);
        }
        let id = state.next;
        state.next += 1;
        state.tasks.insert(id, Task { errand, abort: None });
        Ok(Place { table: Arc::clone(self), process: state.process, id })
    }

    /// Nothing that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let process = fork::generation();
        if state.process != process {
            state.process = process;
            // Not dropped: they belong to a runtime whose threads stayed in the parent.
            std::mem::forget(std::mem::take(&mut state.tasks));
        }
        state
    }
}

impl State {
    fn take_out(&mut self, which: impl Fn(&Task) -> bool) -> Vec<Task> {
        self.tasks.extract_if(|_, task| which(task)).map(|(_, task)| task).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.table.lock();
        if state.process == self.process {
            state.tasks.remove(&self.id);
        }
        drop(state);
        self.table.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// Counts itself when it is dropped, done or not.
    struct Gone(Arc<AtomicUsize>);

    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn hang(gone: &Arc<AtomicUsize>) -> impl Future<Output = ()> + Send + 'static {
        let gone = Gone(Arc::clone(gone));
        async move {
            let _gone = gone;
            std::future::pending().await
        }
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_task_more_than_allowed_is_refused_and_a_place_comes_back_with_its_task() {
        let background = Background::new(2, 1);
        let door = Arc::new(Notify::new());
        for _ in 0..2 {
            let door = Arc::clone(&door);
            background.spawn(Errand::Spare, async move { door.notified().await }).unwrap();
        }
        assert_eq!(background.spawn(Errand::Spare, async {}), Err(NotBegun::Full));
        background.spawn(Errand::Owed, async {}).unwrap();
        tokio::task::yield_now().await;
        door.notify_one();
        until(|| background.running() == 1).await;
        background.spawn(Errand::Spare, async {}).unwrap();
    }

    #[tokio::test]
    async fn a_task_that_panics_gives_its_place_back() {
        let background = Background::new(1, 1);
        background.spawn(Errand::Spare, async { panic!("a loader went wrong") }).unwrap();
        until(|| background.running() == 0).await;
        background.spawn(Errand::Spare, async {}).unwrap();
    }

    #[tokio::test]
    async fn closing_drops_what_is_spare_and_waits_for_what_is_owed() {
        let background = Arc::new(Background::new(8, 8));
        let gone = Arc::new(AtomicUsize::new(0));
        background.spawn(Errand::Spare, hang(&gone)).unwrap();
        let (door, written) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (opens, counts) = (Arc::clone(&door), Arc::clone(&written));
        background
            .spawn(Errand::Owed, async move {
                opens.notified().await;
                counts.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
        let closing = Arc::clone(&background);
        let closing = tokio::spawn(async move { closing.close(Deadline::NEVER).await });
        until(|| gone.load(Ordering::SeqCst) == 1).await;
        assert!(!closing.is_finished());
        door.notify_one();
        assert_eq!(closing.await.unwrap(), 0);
        assert_eq!(written.load(Ordering::SeqCst), 1);
        assert_eq!(background.spawn(Errand::Spare, async {}), Err(NotBegun::Closed));
    }

    #[tokio::test]
    async fn what_is_owed_and_hangs_is_given_up_at_the_deadline_and_counted() {
        let background = Background::new(8, 8);
        let gone = Arc::new(AtomicUsize::new(0));
        background.spawn(Errand::Owed, hang(&gone)).unwrap();
        background.spawn(Errand::Owed, hang(&gone)).unwrap();
        assert_eq!(background.close(Deadline::after(Duration::from_millis(20))).await, 2);
        until(|| gone.load(Ordering::SeqCst) == 2).await;
    }

    #[test]
    fn without_a_runtime_of_the_caller_the_engine_brings_a_thread() {
        let background = Background::new(1, 1);
        let (told, hears) = std::sync::mpsc::channel();
        background.spawn(Errand::Spare, async move { told.send(std::thread::current().id()).unwrap() }).unwrap();
        assert_ne!(hears.recv().unwrap(), std::thread::current().id());
    }

    #[test]
    fn a_runtime_that_ends_takes_its_tasks_and_their_places_with_it() {
        let background = Background::new(1, 1);
        let gone = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { background.spawn(Errand::Spare, hang(&gone)).unwrap() });
        assert_eq!(background.running(), 1);
        drop(runtime);
        assert_eq!((background.running(), gone.load(Ordering::SeqCst)), (0, 1));
    }

    #[tokio::test]
    async fn what_the_parent_process_ran_takes_no_place_in_the_child() {
        let background = Background::new(1, 1);
        let gone = Arc::new(AtomicUsize::new(0));
        background.spawn(Errand::Spare, hang(&gone)).unwrap();
        // As it looks after a fork: the table says another process than this one.
        background.table.state.lock().unwrap().process = fork::generation().wrapping_add(1);
        assert_eq!(background.running(), 0);
        background.spawn(Errand::Spare, async {}).unwrap();
    }
}
