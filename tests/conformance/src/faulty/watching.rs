//! Faults of telling.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cachekit_plugin::{Backend, Cx, Deadline, Event, Fut, Key, Watch, WatchGuard, WatchSink};

use super::backend::step;
use super::{Fault, Faulty, Shared, guard};
use crate::memory::Memory;

/// Passes on what the fault lets through.
struct Bent {
    sink: Arc<dyn WatchSink>,
    fault: Fault,
    memory: Memory,
    shared: Arc<Shared>,
    told: AtomicUsize,
    lost: AtomicBool,
}

impl WatchSink for Bent {
    fn event(&self, event: Event<'_>) {
        let number = self.told.fetch_add(1, SeqCst);
        match (self.fault, event) {
            (Fault::WatchTellsNothing | Fault::TellsTooEarly, _) => {}
            (Fault::WatchIsAlwaysLost, _) => {
                // The change is told too, so that the kit sees more than silence.
                self.sink.event(Event::Lost);
                if !self.lost.swap(true, SeqCst) {
                    self.sink.event(event);
                }
            }
            (Fault::WatchBeginsLate, _) if number == 0 => {}
            (Fault::WatchIgnoresDeletes, Event::Changed(key)) if !exists(&self.memory, key) => {}
            (Fault::WatchIgnoresBatches, _) if self.shared.busy.load(SeqCst) => {}
            (Fault::WatchSkipsSome, _) if number % 100 == 99 => {}
            (Fault::ClosedWatchIsSilent, _) if self.shared.closed.load(SeqCst) => {}
            _ => self.sink.event(event),
        }
    }
}

/// What is there right now. Memory never waits.
fn exists(memory: &Memory, key: Key<'_>) -> bool {
    let cx = Cx::new(Deadline::NEVER);
    let answer = memory.exists(key, &cx).as_mut().poll(&mut Context::from_waker(Waker::noop()));
    matches!(answer, Poll::Ready(Ok(true)))
}

impl Faulty {
    /// Tells a change, and takes its time until it is one.
    pub(super) fn tell_early(&self, key: Key<'_>) {
        for sink in guard(&self.shared.sinks).iter() {
            sink.event(Event::Changed(key));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Watch for Faulty {
    fn watch<'a>(&'a self, prefix: &'a [u8], sink: Arc<dyn WatchSink>, cx: &'a Cx<'a>) -> Fut<'a, WatchGuard> {
        Box::pin(async move {
            if self.has(Fault::OutageIsWatched) && self.outage {
                return Ok(WatchGuard::new(()));
            }
            if self.has(Fault::TellsTooEarly) {
                guard(&self.shared.sinks).push(Arc::clone(&sink));
            }
            let bent = Arc::new(Bent {
                sink,
                fault: self.fault,
                memory: self.memory.clone(),
                shared: Arc::clone(&self.shared),
                told: AtomicUsize::new(0),
                lost: AtomicBool::new(false),
            });
            let prefix = if self.has(Fault::WatchIgnoresPrefixes) { b"" } else { prefix };
            // Another instance on the store is told what this one writes.
            let stranger = self.memory.clone();
            let watcher = if self.has(Fault::WatchTellsOwnWrites) { &stranger } else { &self.memory };
            let begun = Watch::watch(watcher, prefix, bent, cx).await?;
            match self.fault {
                Fault::WatchOutlivesItsGuard => {
                    std::mem::forget(begun);
                    Ok(WatchGuard::new(()))
                }
                Fault::DroppedWatchGoesOn => {
                    let begun = ManuallyDrop::new(begun);
                    step().await;
                    Ok(ManuallyDrop::into_inner(begun))
                }
                Fault::WatchesEndTogether => {
                    guard(&self.shared.guards).push(begun);
                    Ok(WatchGuard::new(EndsAll(Arc::clone(&self.shared))))
                }
                _ => Ok(begun),
            }
        })
    }
}

struct EndsAll(Arc<Shared>);

impl Drop for EndsAll {
    fn drop(&mut self) {
        let ended = std::mem::take(&mut *guard(&self.0.guards));
        drop(ended);
    }
}
