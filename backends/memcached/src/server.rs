//! One server: its connections, and the choice between them.
//!
//! One connection carries thousands of requests, and the fewer there are the more of them share a system call. So a further
//! one is opened only when all are busy, up to `max_pool_size`, and requests use the open ones meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::driver;
use crate::error::{Failure, Lost};
use crate::placement::Address;
use crate::runtime;
use crate::standing::{Attempt, Standing};
use crate::unsettled::Unsettled;

/// Requests under way on the least busy connection before another is opened.
const BUSY: usize = 128;

/// How connections of a server are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) connect_patience: Duration,
    /// Without progress for so long, a connection with requests under way is given up.
    pub(crate) patience: Duration,
    pub(crate) most_connections: usize,
    pub(crate) largest_value: u64,
}

pub(crate) struct Server {
    address: Address,
    pub(crate) terms: Terms,
    pub(crate) standing: Arc<Standing>,
    pub(crate) unsettled: Unsettled,
    connections: Mutex<Vec<Arc<Connection>>>,
}

impl Server {
    pub(crate) fn new(address: Address, terms: Terms, standing: Standing) -> Self {
        Self {
            address,
            terms,
            standing: Arc::new(standing),
            unsettled: Unsettled::default(),
            connections: Mutex::default(),
        }
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to queue on. It may still be opening.
    pub(crate) fn connection(&self) -> Result<Arc<Connection>, Failure> {
        let mut connections = self.connections();
        connections.retain(|connection| !connection.is_over());
        let open = connections.iter().filter(|connection| connection.is_open());
        if let Some(least) = open.min_by_key(|connection| connection.load()) {
            let least = Arc::clone(least);
            let all_open = connections.iter().all(|connection| connection.is_open());
            // One at a time, so that a burst does not open them all.
            if least.load() >= BUSY && all_open && connections.len() < self.terms.most_connections {
                let another = self.begin()?;
                connections.push(another);
            }
            return Ok(least);
        }
        let opening = connections.first().map(Arc::clone);
        match (self.standing.attempt(Instant::now()), opening) {
            (Attempt::Open, Some(opening)) => Ok(opening),
            (Attempt::Open | Attempt::Probe, None) => {
                let new = self.begin()?;
                connections.push(Arc::clone(&new));
                Ok(new)
            }
            // Somebody is finding out. The others are not made to wait for a server that failed more than once.
            (Attempt::Probe, Some(_)) => Err(Failure::Failing { pause: Duration::from_millis(10) }),
            (Attempt::Pause(pause), _) => Err(Failure::Failing { pause }),
        }
    }

    /// Begins a connection on the current runtime.
    fn begin(&self) -> Result<Arc<Connection>, Failure> {
        let connection = Arc::new(Connection::new(Arc::clone(&self.standing), Instant::now()));
        let Terms { connect_patience, patience, largest_value, .. } = self.terms;
        // A server in trouble gets no more time to accept than to answer.
        let connect_patience =
            if self.standing.is_troubled() { connect_patience.min(patience) } else { connect_patience };
        let run = driver::run(Arc::clone(&connection), self.address.clone(), connect_patience, largest_value);
        runtime::current()?.spawn(run);
        Ok(connection)
    }

    /// How long `connection` may make no progress.
    pub(crate) fn patience_with(&self, connection: &Connection) -> Duration {
        if connection.is_opening() {
            // Its driver ends it after `connect_patience`; later only a driver that is not being run is left to end.
            return self.terms.connect_patience + self.terms.patience;
        }
        self.terms.patience
    }

    /// Connections that are open, and whether all requests on them are answered.
    pub(crate) fn usage(&self) -> (usize, bool) {
        let connections = self.connections();
        let open = connections.iter().filter(|connection| connection.is_open()).count();
        (open, connections.iter().all(|connection| connection.is_idle()))
    }

    /// Ends every connection.
    pub(crate) fn close(&self) {
        for connection in std::mem::take(&mut *self.connections()) {
            connection.end(Lost::Closing);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}
