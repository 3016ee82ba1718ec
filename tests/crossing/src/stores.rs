//! The same store, met in four ways, and the operations that are asked of it: what is counted here and timed by the benches.

use std::future::Future;
use std::hint::black_box;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use cachekit_host::{Plugin, Policy};
use cachekit_plugin::{Backend, Cx, Deadline, HostServices, Key, Open, Ttl};
use null_plugin::{Null, NullConfig};

use crate::Failure;
use crate::vtable::Tables;

/// A key of usual length.
const KEY: &[u8] = b"ck:users:some-key-of-usual-length";
const ABSENT: &[u8] = b"ck:users:some-key-that-is-not-here";
const CX: Cx<'static> = Cx::new(Deadline::NEVER);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The thinnest call of the contract: no key, no allocation, one small record.
    Limits,
    /// Of a key that is not there.
    Exists,
    /// A value of 64 bytes.
    Get64,
    /// A value of 4 KiB.
    Get4K,
    /// A value of 1 MiB.
    Get1M,
    /// A value of 64 bytes.
    Set64,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Limits, Self::Exists, Self::Get64, Self::Get4K, Self::Get1M, Self::Set64];

    /// As reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Limits => "no-op (limits)",
            Self::Exists => "exists, absent",
            Self::Get64 => "get 64 B",
            Self::Get4K => "get 4 KiB",
            Self::Get1M => "get 1 MiB",
            Self::Set64 => "set 64 B",
        }
    }

    /// As the command line calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Exists => "exists",
            Self::Get64 => "get-64",
            Self::Get4K => "get-4k",
            Self::Get1M => "get-1m",
            Self::Set64 => "set-64",
        }
    }

    fn value_len(self) -> usize {
        match self {
            Self::Get4K => 4 << 10,
            Self::Get1M => 1 << 20,
            _ => 64,
        }
    }
}

/// How the store is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `&dyn Backend`, in this program.
    Linked,
    /// The tables of the C ABI, called directly.
    Tables,
    /// The host's backend, over the polled table.
    Host,
    /// The host's backend, over the blocking tables.
    HostBlocking,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Linked, Self::Tables, Self::Host, Self::HostBlocking];

    /// As reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Tables => "C ABI",
            Self::Host => "host",
            Self::HostBlocking => "host, blocking",
        }
    }

    /// As the command line calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Tables => "tables",
            Self::Host => "host",
            Self::HostBlocking => "host-blocking",
        }
    }

    /// Opens the store this way.
    pub fn open(self, library: &Path) -> Result<Store, Failure> {
        let policy = Policy::default().with_prefer_blocking(self == Self::HostBlocking);
        let host = || -> Result<Store, Failure> {
            let plugin = Plugin::open(library, &policy)?;
            Ok(Store::Backend(plugin.create(b"", HostServices::none())?))
        };
        Ok(match self {
            // Past `black_box` the compiler does not know which backend it is, as in the engine.
            Self::Linked => Store::Backend(black_box(
                Arc::new(Null::open(NullConfig {}, HostServices::none())?) as Arc<dyn Backend>
            )),
            Self::Tables => Store::Tables(Tables::open(library)?),
            Self::Host | Self::HostBlocking => host()?,
        })
    }
}

/// An opened store.
pub enum Store {
    /// Linked, or behind the host.
    Backend(Arc<dyn Backend>),
    /// Behind the bare tables.
    Tables(Tables),
}

/// The operations as they are called here; one implementation per way, so that each loop is compiled for its own.
pub(super) trait Calls {
    fn limits(&self) -> u32;
    fn exists(&self, key: &[u8]) -> bool;
    fn get(&self, key: &[u8]) -> Option<Bytes>;
    fn set(&self, key: &[u8], value: &[u8]);
}

impl Store {
    /// Puts there what `operation` needs.
    pub fn prepare(&self, operation: Operation) {
        let value = vec![7; operation.value_len()];
        match self {
            Self::Backend(backend) => Calls::set(&**backend, KEY, &value),
            Self::Tables(tables) => tables.set(KEY, &value),
        }
    }

    /// Calls `operation` `count` times.
    pub fn repeat(&self, operation: Operation, count: u64) {
        match self {
            Self::Backend(backend) => repeat(&**backend, operation, count),
            Self::Tables(tables) => repeat(tables, operation, count),
        }
    }
}

fn repeat(store: &(impl Calls + ?Sized), operation: Operation, count: u64) {
    match operation {
        Operation::Limits => (0..count).for_each(|_| assert!(black_box(store.limits()) > 0)),
        Operation::Exists => (0..count).for_each(|_| assert!(!black_box(store.exists(black_box(ABSENT))))),
        Operation::Get64 | Operation::Get4K | Operation::Get1M => {
            (0..count).for_each(|_| assert!(black_box(store.get(black_box(KEY))).is_some()));
        }
        Operation::Set64 => (0..count).for_each(|_| store.set(black_box(KEY), black_box(&[7; 64]))),
    }
}

impl Calls for dyn Backend {
    fn limits(&self) -> u32 {
        Backend::limits(self).max_key
    }

    fn exists(&self, key: &[u8]) -> bool {
        wait(Backend::exists(self, Key::from_wire(key), &CX)).expect("the store works")
    }

    fn get(&self, key: &[u8]) -> Option<Bytes> {
        wait(Backend::get(self, Key::from_wire(key), &CX)).expect("the store works")
    }

    fn set(&self, key: &[u8], value: &[u8]) {
        let value = Bytes::copy_from_slice(value);
        wait(Backend::set(self, Key::from_wire(key), value, Ttl::Never, &CX)).expect("the store works");
    }
}

/// Polls once, which is enough wherever the value is ready; only then parks.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return answer;
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}
