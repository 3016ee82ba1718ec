//! The task that moves the bytes of one connection, both ways at once.
//!
//! One task, so that a server that answers slowly cannot keep us from sending, and one that reads slowly cannot keep us from
//! reading: two sides that both only write would wait for each other for ever. Whatever callers have queued since its last
//! turn leaves with one system call, and one system call may bring many answers.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;

use crate::connection::{Connection, Task};
use crate::error::Lost;
use crate::greeting;
use crate::outbox::Outbox;
use crate::placement::Address;
use crate::reply::{Decoder, Frame};
use crate::socket::Socket;

/// Read at once. More than the answers of a busy moment, and a large value needs few calls.
const READ: usize = 64 << 10;
/// Turns of reading before other tasks of the runtime get theirs.
const TURNS: usize = 16;

/// Connects, exchanges greetings, and moves bytes until the connection is over.
pub(crate) async fn run(connection: Arc<Connection>, address: Address, patience: Duration, largest_value: u64) {
    // Also when the runtime ends and drops this task: nobody waits for a driver that is gone.
    let over = EndsWithMe(connection);
    let opened = tokio::time::timeout(patience, async {
        let mut socket = Socket::connect(&address).await.map_err(|error| Lost::Unreachable(error.into()))?;
        let greeting = greeting::exchange(&mut socket).await?;
        Ok((socket, greeting))
    });
    let (socket, greeting) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(lost)) => return over.0.end(lost),
        Err(_) => return over.0.end(Lost::ConnectTimeout),
    };
    over.0.open(greeting);
    let driver = Driver {
        connection: &over.0,
        socket,
        outbox: Outbox::default(),
        written: 0,
        decoder: Decoder::new(largest_value),
        buffer: vec![0; READ].into_boxed_slice(),
        frames: Vec::new(),
    };
    let lost = driver.await;
    over.0.end(lost);
}

struct EndsWithMe(Arc<Connection>);

impl Drop for EndsWithMe {
    fn drop(&mut self) {
        self.0.end(Lost::Ended);
    }
}

/// Ends with the reason why the connection is over.
struct Driver<'a> {
    connection: &'a Connection,
    socket: Socket,
    outbox: Outbox,
    /// Accepted by the socket since the connection was told.
    written: usize,
    decoder: Decoder,
    buffer: Box<[u8]>,
    frames: Vec<Frame>,
}

impl Future for Driver<'_> {
    type Output = Lost;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Lost> {
        let this = &mut *self;
        for _ in 0..TURNS {
            let written = std::mem::take(&mut this.written);
            match this.connection.take(&mut this.outbox, written, context.waker()) {
                Task::Work => {}
                // Whoever ended it has told everybody; the reason is the one it gave.
                Task::End => return Poll::Ready(Lost::Closing),
            }
            if let Poll::Ready(Err(error)) = this.write(context) {
                return Poll::Ready(Lost::Broken(error.into()));
            }
            match this.read(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(lost)) => return Poll::Ready(lost),
                // What was written may have made room, which the next `take` tells.
                Poll::Pending if this.written == 0 => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Driver<'_> {
    /// Writes until nothing is left or the socket takes no more.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(8);
            self.outbox.slices(&mut slices);
            match self.socket.poll_write(context, &slices) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.outbox.advance(count);
                    self.written += count;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and lays down what is complete.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let mut buffer = ReadBuf::new(&mut self.buffer);
        match self.socket.poll_read(context, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Lost::Broken(error.into()))),
            Poll::Ready(Ok(())) => {}
        }
        let filled = buffer.filled();
        if filled.is_empty() {
            return Poll::Ready(Err(Lost::ClosedByServer));
        }
        // What was complete before the stream went wrong is answered; each of those repeated its number.
        let fed = self.decoder.feed(filled, &mut self.frames);
        let answered = self.connection.answer(&mut self.frames, filled.len());
        Poll::Ready(answered.and(fed))
    }
}
