//! Every kernel, sound and broken: see `src/lib.rs`.

// The copies hold more than their properties use, and their callers are elsewhere.
#![allow(dead_code, unused, unreachable_pub, missing_docs, clippy::duplicate_mod)]

macro_rules! kernels {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
        })*
    };
}

kernels!(breaker, bulkhead, flight, generations, slack);

/// What the kernels know of the engine, under the names they know it by.
mod clock {
    pub(crate) use cachekit_core::clock::Clock;
}

mod guard {
    pub(crate) mod deadline {
        use std::pin::pin;

        use cachekit_plugin::{BackendError, Deadline, Operation};

        /// Of no deadline but this one may a model say that it has passed.
        const PASSED: Deadline = Deadline::from_monotonic_ns(1);

        /// Time does not pass in a model: whoever would wait until a deadline waits for ever, and that is found, unless it has
        /// passed before he waits.
        pub(crate) async fn within<T>(
            deadline: Deadline,
            operation: Operation,
            work: impl Future<Output = Result<T, BackendError>>,
        ) -> Result<T, BackendError> {
            if deadline != PASSED {
                return work.await;
            }
            let mut work = pin!(work);
            std::future::poll_fn(|context| match work.as_mut().poll(context) {
                std::task::Poll::Pending => std::task::Poll::Ready(Err(BackendError::timeout(operation))),
                ready => ready,
            })
            .await
        }
    }
}

mod l1 {
    /// As the engine's, and made of any number.
    #[derive(Clone, Copy)]
    pub(crate) struct KeyHash(pub(crate) u64);

    impl KeyHash {
        pub(crate) const fn as_u64(self) -> u64 {
            self.0
        }

        pub(crate) const fn stripe(self, stripes: usize) -> usize {
            self.0 as usize % stripes
        }
    }
}

mod local {
    use std::cell::RefCell;

    /// What the standard library's keys of a thread's own values can do, and shuttle's cannot.
    pub(crate) trait Borrow<T> {
        fn with_borrow<R>(&'static self, what: impl FnOnce(&T) -> R) -> R;
        fn with_borrow_mut<R>(&'static self, what: impl FnOnce(&mut T) -> R) -> R;
    }

    impl<T> Borrow<T> for shuttle::thread::LocalKey<RefCell<T>> {
        fn with_borrow<R>(&'static self, what: impl FnOnce(&T) -> R) -> R {
            self.with(|value| what(&value.borrow()))
        }

        fn with_borrow_mut<R>(&'static self, what: impl FnOnce(&mut T) -> R) -> R {
            self.with(|value| what(&mut value.borrow_mut()))
        }
    }
}
