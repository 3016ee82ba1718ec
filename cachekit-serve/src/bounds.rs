//! What clients can make grow, and how far. Each number is the answer to an attack that costs its sender nothing.

use std::time::Duration;

/// Bounds of a server. The reasons of the defaults stand in `docs/serve.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at a time; more wait in the backlog of the listening socket.
    pub max_connections: usize,
    /// Requests at a time, over all tenants. One more is answered 503.
    pub max_in_flight: usize,
    /// Requests at a time of one tenant. One more is answered 429.
    pub tenant_in_flight: usize,
    /// Largest value, bytes, if the store takes as much. A larger one is answered 413.
    pub max_value: usize,
    /// Bytes of all values that are on their way in or out. What does not fit is answered 503.
    pub max_buffered: usize,
    /// Entries that are fetched from the store at a time: how large one is shows when it is there, so until then it counts
    /// as one, and not in `max_buffered`. Further ones wait, up to `deadline`, and are answered 503.
    pub max_fetches: usize,
    /// Longest time for the store to answer. Handed to it as its deadline; past it the answer is 504.
    pub deadline: Duration,
    /// Longest time from accepting a connection to the end of its first request's headers, the TLS handshake included.
    pub header_timeout: Duration,
    /// Longest time for the body of a request. Past it the answer is 408.
    pub body_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// How long a shutdown waits for requests in flight.
    pub grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_in_flight: 512,
            tenant_in_flight: 512,
            max_value: 16 << 20,
            max_buffered: 256 << 20,
            max_fetches: 64,
            // Below the 5 s after which clients of the family stop waiting, so that they learn why.
            deadline: Duration::from_secs(3),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    }
}

impl Bounds {
    /// What would make a server that can answer nothing.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let counts = [
            (self.max_connections, "max_connections"),
            (self.max_in_flight, "max_in_flight"),
            (self.tenant_in_flight, "tenant_in_flight"),
            (self.max_value, "max_value"),
            (self.max_fetches, "max_fetches"),
        ];
        let times = [
            (self.deadline, "deadline"),
            (self.header_timeout, "header_timeout"),
            (self.body_timeout, "body_timeout"),
            (self.idle_timeout, "idle_timeout"),
            (self.write_timeout, "write_timeout"),
        ];
        for (count, name) in counts {
            // The largest number of permits that a semaphore holds, far beyond any machine.
            if count == 0 || count > 1 << 40 {
                return Err(name);
            }
        }
        if self.max_buffered < self.max_value {
            return Err("max_buffered");
        }
        times.into_iter().find(|(time, _)| time.is_zero()).map_or(Ok(()), |(_, name)| Err(name))
    }
}
