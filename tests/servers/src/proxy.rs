//! A TCP proxy that does what networks do.
//!
//! It runs on a thread of its own, so that blocking tests can use it, and its fault can be changed while connections are
//! open. What it does to bytes depends on a seed and on the place in the stream alone, never on how reads happen to be
//! cut: a run can be repeated.
//!
//! TCP never loses bytes in the middle of a stream and then goes on, so a connection that lost some stays silent for
//! good, also when the fault is lifted. [`Fault::Stall`] is the network that only waits.

mod pump;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::process::{READY_WITHIN, until};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Bytes come later, by this or by up to twice this when they are many.
    Delay(Duration),
    /// Bytes are held back until the fault is lifted, then delivered.
    Stall,
    /// Bytes are taken and never delivered; new connections are accepted. A connection that lost bytes never recovers.
    BlackHole,
    /// All connections are reset, new ones too.
    Reset,
    /// The server's side is closed and the client is not told: what it sends is taken, nothing comes.
    HalfOpen,
    /// New connections are refused; open ones go on.
    Refuse,
    /// The connection is closed after this many more bytes, in the middle of whatever they are.
    CutAfter(u64),
    /// About one byte in sixteen is another one.
    Garble(u64),
    /// Everything that was read at once is sent twice.
    Duplicate,
    /// No more than `bytes` at once, and then a pause.
    Trickle {
        /// How many.
        bytes: usize,
        /// The pause.
        every: Duration,
    },
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Replies,
}

/// The faults of both directions. Setting one counts, so that `CutAfter` begins anew.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    requests: Fault,
    replies: Fault,
    setting: u64,
    /// Connections with lower numbers are reset, whenever they look. What is set and taken back may be seen by nobody.
    reset_below: u64,
}

impl Faults {
    fn of(&self, direction: Direction) -> Fault {
        match direction {
            Direction::Requests => self.requests,
            Direction::Replies => self.replies,
        }
    }

    fn either(&self, fault: Fault) -> bool {
        self.requests == fault || self.replies == fault
    }
}

/// What passed so far.
#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
    replies: AtomicU64,
    /// The numbers of those that can still be reset.
    open: Mutex<BTreeSet<u64>>,
}

impl Counters {
    fn open(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that can be reset, as long as this lives.
#[derive(Debug)]
struct Open {
    number: u64,
    counters: Arc<Counters>,
}

impl Open {
    fn next(counters: &Arc<Counters>) -> Self {
        // Counted and open at once, for those who look at both.
        let mut open = counters.open();
        let number = counters.connections.fetch_add(1, Ordering::Relaxed);
        open.insert(number);
        drop(open);
        Self { number, counters: Arc::clone(counters) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.open().remove(&self.number);
    }
}

/// A running proxy, ended with its connections when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    faults: Option<watch::Sender<Faults>>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Stands in front of `upstream` on a loopback port.
    ///
    /// # Panics
    /// If there is no port or the address is none.
    pub fn start(upstream: impl ToSocketAddrs) -> Self {
        let upstream = upstream.to_socket_addrs().ok().and_then(|mut found| found.next()).expect("an address");
        let listener = crate::process::listener();
        listener.set_nonblocking(true).expect("a socket can be made so");
        let addr = listener.local_addr().expect("it is bound");
        let (faults, receiver) = watch::channel(Faults::default());
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let thread = std::thread::Builder::new()
            .name("fault-proxy".into())
            .spawn(move || runtime.block_on(accept(listener, upstream, receiver, shared)))
            .expect("a thread can be started");
        Self { addr, faults: Some(faults), counters, thread: Some(thread) }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port of it.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Changes the fault, for open connections too. Faults of the connection concern both ways, faults of bytes the
    /// replies: a request that was changed on its way would store what nobody asked for, and no client could know.
    pub fn set(&self, fault: Fault) {
        let of_the_connection =
            matches!(fault, Fault::Stall | Fault::BlackHole | Fault::Reset | Fault::HalfOpen | Fault::Refuse);
        self.change(|faults| {
            faults.requests = if of_the_connection { fault } else { Fault::None };
            faults.replies = fault;
        });
    }

    /// Changes the fault of one direction.
    pub fn set_on(&self, direction: Direction, fault: Fault) {
        self.change(|faults| match direction {
            Direction::Requests => faults.requests = fault,
            Direction::Replies => faults.replies = fault,
        });
    }

    /// Resets the connections that are open now, and returns when they are; new ones are well. One that is half open is closed
    /// at the server already and stays as it is.
    ///
    /// # Panics
    /// If they are not reset within [`READY_WITHIN`].
    pub fn reset_once(&self) {
        let open = self.counters.open();
        let next = self.connections();
        drop(open);
        self.change(|faults| {
            *faults = Faults { setting: faults.setting, reset_below: next, ..Faults::default() };
        });
        until("the open connections are reset", READY_WITHIN, || {
            self.counters.open().first().is_none_or(|oldest| *oldest >= next)
        });
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }

    /// How many bytes were delivered in one direction.
    pub fn delivered(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Requests => self.counters.requests.load(Ordering::Relaxed),
            Direction::Replies => self.counters.replies.load(Ordering::Relaxed),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Faults)) {
        if let Some(faults) = &self.faults {
            faults.send_modify(|faults| {
                change(faults);
                faults.setting += 1;
            });
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Without a sender the accepting task ends, and with it every connection.
        self.faults = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: std::net::TcpListener,
    upstream: SocketAddr,
    mut faults: watch::Receiver<Faults>,
    counters: Arc<Counters>,
) {
    let addr = listener.local_addr().expect("it is bound");
    let mut listener = Some(TcpListener::from_std(listener).expect("it does not block"));
    let mut connections = JoinSet::new();
    loop {
        let refuse = faults.borrow_and_update().either(Fault::Refuse);
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = bind_again(addr).ok();
        }
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return },
            Some(client) = accepted(listener.as_ref()) => {
                connections.spawn(pump::connection(client, upstream, faults.clone(), Open::next(&counters)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A client; never anybody while nobody listens.
async fn accepted(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

fn bind_again(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(1024)
}
