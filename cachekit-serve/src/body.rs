//! Bodies in and out, counted while they are in memory.
//!
//! A client says how long its body is and may lie; it may send it slowly, and read the answer slowly. So bytes are counted
//! as they come, and an answer gives back what it took only when its last byte was handed to the socket.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::Refusal;

/// Memory is counted in these: a semaphore holds 2^32 permits at a time in one guard, bytes would be too many.
const UNIT: usize = 1024;

/// A buffer begins with room for this much, whatever length the client claims.
const FIRST_ROOM: usize = 64 << 10;

/// Bytes of values that may be in memory.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    total: usize,
}

/// Bytes that are in memory. Given back on drop.
#[derive(Debug)]
pub(crate) struct Held {
    permit: OwnedSemaphorePermit,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let total = bytes.div_ceil(UNIT);
        Self { units: Arc::new(Semaphore::new(total)), total }
    }

    /// Takes room for `bytes`, or says that the server is busy.
    pub(crate) fn hold(&self, bytes: usize) -> Result<Held, Refusal> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).map_err(|_| Refusal::too_large())?;
        let permit = self.units.clone().try_acquire_many_owned(units).map_err(|_| Refusal::busy())?;
        Ok(Held { permit })
    }

    pub(crate) fn used(&self) -> usize {
        self.total.saturating_sub(self.units.available_permits()) * UNIT
    }
}

/// The length that the client claims.
pub(crate) fn claimed(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What a body is read into.
pub(crate) struct Incoming<'a> {
    pub(crate) budget: &'a Budget,
    /// Largest body.
    pub(crate) max: usize,
    pub(crate) within: Duration,
}

impl Incoming<'_> {
    /// Appends the body to what `begin` makes, given the room that is likely needed.
    pub(crate) async fn read(
        &self,
        body: Body,
        claimed: Option<usize>,
        begin: impl FnOnce(usize) -> BytesMut,
    ) -> Result<(BytesMut, Held), Refusal> {
        if claimed.is_some_and(|claimed| claimed > self.max) {
            return Err(Refusal::too_large());
        }
        let read = self.append(body, begin(claimed.unwrap_or(0).min(FIRST_ROOM)));
        tokio::time::timeout(self.within, read).await.unwrap_or(Err(Refusal::too_slow()))
    }

    async fn append(&self, mut body: Body, mut buffer: BytesMut) -> Result<(BytesMut, Held), Refusal> {
        let before = buffer.len();
        let mut held = self.budget.hold(buffer.capacity())?;
        let mut counted = buffer.capacity();
        while let Some(frame) = body.frame().await {
            // What hyper could not make sense of, or a client that went away.
            let Ok(frame) = frame else { return Err(Refusal::body("the body ended early or was malformed")) };
            // Trailers mean nothing here.
            let Ok(data) = frame.into_data() else { continue };
            if buffer.len() - before + data.len() > self.max {
                return Err(Refusal::too_large());
            }
            // The buffer doubles, so half of what is counted may be empty; it is memory all the same.
            let needed = buffer.len() + data.len();
            if needed > counted {
                let doubled = needed.max((counted * 2).min(before + self.max));
                held.permit.merge(self.budget.hold(doubled - counted)?.permit);
                counted = doubled;
                buffer.reserve(doubled - buffer.len());
            }
            buffer.put(data);
        }
        Ok((buffer, held))
    }
}

/// A value on its way out, with whatever must not be given back before it is gone.
struct Outgoing<G> {
    value: Bytes,
    _guards: G,
}

impl<G> AsRef<[u8]> for Outgoing<G> {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

/// A body that keeps `guards` until nothing refers to its bytes any more, in whichever buffer they wait.
pub(crate) fn outgoing<G: Send + 'static>(value: Bytes, guards: G) -> Body {
    Body::from(Bytes::from_owner(Outgoing { value, _guards: guards }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_holds_comes_back_with_its_last_slice() {
        let budget = Budget::new(10 << 10);
        let held = budget.hold(10 << 10).unwrap();
        assert!(budget.hold(1).is_err());
        let bytes = Bytes::from_owner(Outgoing { value: Bytes::from_static(b"value"), _guards: held });
        let slice = bytes.slice(1..2);
        drop(bytes);
        assert_eq!(budget.used(), 10 << 10);
        drop(slice);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_counted_while_it_comes() {
        let budget = Budget::new(1 << 20);
        let incoming = Incoming { budget: &budget, max: 100_000, within: Duration::from_secs(5) };
        let read =
            async |len: usize, claimed| incoming.read(Body::from(vec![7; len]), claimed, BytesMut::with_capacity).await;
        let (buffer, held) = read(100_000, None).await.unwrap();
        assert_eq!((buffer.len(), budget.used() >= 100_000), (100_000, true));
        drop(held);
        assert_eq!(read(100_001, None).await.unwrap_err(), Refusal::too_large());
        assert_eq!(read(100_001, Some(5)).await.unwrap_err(), Refusal::too_large());
        assert_eq!(read(5, Some(100_001)).await.unwrap_err(), Refusal::too_large());
        let _all = budget.hold(1 << 20).unwrap();
        assert_eq!(read(5, None).await.unwrap_err(), Refusal::busy());
    }
}
