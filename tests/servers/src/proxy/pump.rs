//! One connection through the proxy: two streams of bytes and what happens to them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Counters, Direction, Fault, Faults, Open};

pub(super) async fn connection(
    mut client: TcpStream,
    upstream: SocketAddr,
    mut faults: watch::Receiver<Faults>,
    open: Open,
) {
    if faults.borrow_and_update().either(Fault::Reset) {
        return reset(client);
    }
    // A server that is not there: the client sees its connection closed.
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    // Latency is what this proxy adds on purpose only.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let lost = AtomicBool::new(false);
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let pump =
            |direction| Pump { direction, faults: faults.clone(), counters: &open.counters, lost: &lost, passed: 0 };
        let (mut requests, mut replies) = (pump(Direction::Requests), pump(Direction::Replies));
        let streams = async {
            tokio::try_join!(requests.run(from_client, to_server), replies.run(from_server, to_client)).map(drop)
        };
        tokio::select! {
            // An end of either kind closes both sides.
            _ = streams => Fault::None,
            fault = torn(faults, open.number) => fault,
        }
    };
    match end {
        Fault::Reset => {
            reset(client);
            reset(server);
            // Now that it is.
            drop(open);
        }
        Fault::HalfOpen => {
            drop((server, open));
            let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
        }
        _ => {}
    }
}

/// A fault that concerns the connection as a whole.
async fn torn(mut faults: watch::Receiver<Faults>, number: u64) -> Fault {
    loop {
        let now = *faults.borrow_and_update();
        if number < now.reset_below {
            return Fault::Reset;
        }
        for fault in [Fault::Reset, Fault::HalfOpen] {
            if now.either(fault) {
                return fault;
            }
        }
        if faults.changed().await.is_err() {
            return Fault::None;
        }
    }
}

/// Closes with a reset instead of a farewell.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

struct Pump<'a> {
    direction: Direction,
    faults: watch::Receiver<Faults>,
    counters: &'a Counters,
    /// Bytes of this connection are gone, whichever way they went.
    lost: &'a AtomicBool,
    /// How many came in this direction so far.
    passed: u64,
}

impl Pump<'_> {
    async fn run(&mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut chunk = vec![0; 64 << 10];
        let mut cut = (0, 0);
        loop {
            let read = from.read(&mut chunk).await?;
            if read == 0 {
                // A silent connection does not say goodbye either.
                if self.lost.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
                return to.shutdown().await;
            }
            let mut now = *self.faults.borrow_and_update();
            while now.of(self.direction) == Fault::Stall {
                self.faults.changed().await.map_err(|_| io::Error::other("the proxy ends"))?;
                now = *self.faults.borrow_and_update();
            }
            let bytes = &mut chunk[..read];
            let place = self.passed;
            self.passed += read as u64;
            if now.of(self.direction) == Fault::BlackHole || self.lost.load(Ordering::Relaxed) {
                self.lost.store(true, Ordering::Relaxed);
                continue;
            }
            match now.of(self.direction) {
                Fault::Delay(delay) => {
                    sleep(delay).await;
                    self.deliver(&mut to, bytes).await?;
                }
                Fault::CutAfter(limit) => {
                    if cut.0 != now.setting {
                        cut = (now.setting, limit);
                    }
                    let keep = read.min(usize::try_from(cut.1).unwrap_or(read));
                    self.deliver(&mut to, &bytes[..keep]).await?;
                    cut.1 -= keep as u64;
                    if cut.1 == 0 {
                        return Err(io::Error::other("cut"));
                    }
                }
                Fault::Garble(seed) => {
                    garble(seed, place, bytes);
                    self.deliver(&mut to, bytes).await?;
                }
                Fault::Duplicate => {
                    self.deliver(&mut to, bytes).await?;
                    self.deliver(&mut to, bytes).await?;
                }
                Fault::Trickle { bytes: few, every } => {
                    for piece in bytes.chunks(few.max(1)) {
                        self.deliver(&mut to, piece).await?;
                        sleep(every).await;
                    }
                }
                _ => self.deliver(&mut to, bytes).await?,
            }
        }
    }

    async fn deliver(&self, to: &mut WriteHalf<'_>, bytes: &[u8]) -> io::Result<()> {
        to.write_all(bytes).await?;
        let counter = match self.direction {
            Direction::Requests => &self.counters.requests,
            Direction::Replies => &self.counters.replies,
        };
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// Changes bytes by their place in the stream.
fn garble(seed: u64, place: u64, bytes: &mut [u8]) {
    for (byte, offset) in bytes.iter_mut().zip(place..) {
        let mut mixed = (seed ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        if (mixed >> 32).is_multiple_of(16) {
            *byte ^= (mixed as u8) | 1;
        }
    }
}
