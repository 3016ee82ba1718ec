//! The server as its clients have it: over real sockets and real TLS, on a store in memory whose clock stands still.

mod access;
mod bounds;
mod curl;
mod ends;
mod fixture;
mod lives;
mod load;
mod locks;
mod store;
mod values;
