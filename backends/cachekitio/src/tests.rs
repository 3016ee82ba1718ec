//! What the client does with servers that are right, wrong and hostile, over real sockets.

mod bounds;
mod certificates;
mod hostile;
mod names;
mod secrets;
mod server;
mod stub;
mod vectors;
