//! Taking a lease and giving it back, also for a caller who is gone before the service answers.
//!
//! Only the answer says under which id a lease can be given back. If the question ended with its caller, a lease that was
//! taken would keep everybody from the key until it runs out. So a task of its own asks, and hears the answer: what nobody
//! claims it gives back. Whoever comes to give back what is still being asked for waits for that.
//!
//! Questions without a caller are no longer counted among the exchanges of the pool, or a service that stalls would keep
//! other callers waiting for longer than their own exchanges last; so they have a bound of their own.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use cachekit_plugin::{Cx, Key};
use http::{HeaderValue, Method};
use serde_json::Value as Json;
use tokio::sync::oneshot;

use crate::backend::CachekitIoBackend;
use crate::body::Want;
use crate::client::{Answer, Ask, Begun, Client, by, found};
use crate::error::ServiceError;
use crate::headers::LOCK_ID;
use crate::locks::{Asking, as_header};
use crate::path::segment;
use crate::retry::Again;

/// Longest hold that is asked for. `cachekit serve` takes no longer one, and what the service takes nobody says.
const MAX_HOLD_MS: u64 = 3_600_000;

/// A lease on its way to its caller.
struct Offer {
    id: HeaderValue,
    claim: oneshot::Sender<()>,
}

impl CachekitIoBackend {
    pub(crate) async fn lease(
        &self,
        key: Key<'_>,
        token: &[u8],
        hold_ms: u64,
        cx: &Cx<'_>,
    ) -> Result<bool, ServiceError> {
        let hold_ms = hold_ms.clamp(1, MAX_HOLD_MS);
        let asked = Instant::now();
        let place = format!("{}/lock", segment(key.as_bytes())?);
        let ask = Ask::new(Method::POST, place.clone())
            .json(format!("{{\"timeout_ms\": {hold_ms}}}"))
            .want(Want::Json)
            // An answer that was lost may have been a yes.
            .again(Again::Never);
        // Nothing is sent before this has ended, so nothing is left by a caller who does not wait for it.
        let begun = self.client.begin(ask, cx).await?;
        let asking = self.leases.asking(key.as_bytes(), token);
        let (answer, told) = oneshot::channel();
        tokio::spawn(hear(Arc::clone(&self.client), begun, place, answer, asking));
        let offer = by(cx.deadline, async { told.await.unwrap_or(Err(ServiceError::Closed)) }).await?;
        let Some(Offer { id, claim }) = offer else { return Ok(false) };
        self.leases.keep(key.as_bytes(), token, id, asked, Duration::from_millis(hold_ms));
        // Kept before it is claimed: there is no moment at which nobody has it. Whoever is told may be gone with its
        // runtime, and the lease is this caller's all the same.
        let _ = claim.send(());
        Ok(true)
    }

    pub(crate) async fn release(&self, key: Key<'_>, token: &[u8], cx: &Cx<'_>) -> Result<bool, ServiceError> {
        let mut taken = self.leases.take(key.as_bytes(), token);
        if taken.is_none()
            && let Some(mut asked) = self.leases.asked(key.as_bytes(), token)
        {
            // An error means that it has ended, which is what is waited for.
            let ended = async {
                let _ = asked.changed().await;
                Ok(())
            };
            by(cx.deadline, ended).await?;
            taken = self.leases.take(key.as_bytes(), token);
        }
        let Some(taken) = taken else { return Ok(false) };
        let place = format!("{}/lock", segment(key.as_bytes())?);
        let found = found(self.client.ask(giving_back(place, taken.id.clone()), cx).await)?;
        taken.over();
        Ok(found.is_some())
    }
}

fn giving_back(place: String, id: HeaderValue) -> Ask {
    let mut ask = Ask::new(Method::DELETE, place).again(Again::Never);
    ask.headers.insert(LOCK_ID, id);
    ask
}

/// Hears what the service answers, and gives back what it gave if nobody claims it.
async fn hear(
    client: Arc<Client>,
    begun: Begun,
    place: String,
    mut answer: oneshot::Sender<Result<Option<Offer>, ServiceError>>,
    _asking: Asking,
) {
    let (exchange, turn) = begun.apart();
    let mut exchange = pin!(exchange);
    let heard = poll_fn(|cx| match exchange.as_mut().poll(cx) {
        Poll::Ready(heard) => Poll::Ready(Some(heard)),
        Poll::Pending => answer.poll_closed(cx).map(|()| None),
    });
    let heard = heard.await;
    drop(turn);
    let heard = match heard {
        Some(heard) => heard,
        None => {
            let Some(_stray) = client.stray() else { return };
            exchange.await
        }
    };
    let id = match heard {
        Ok(heard) => lease_id(&heard),
        Err(error) => return drop(answer.send(Err(error))),
    };
    let Some(id) = id else { return drop(answer.send(Ok(None))) };
    let (claim, claimed) = oneshot::channel();
    // The caller may leave before it is told, or be told and leave before it looks.
    if answer.send(Ok(Some(Offer { id: id.clone(), claim }))).is_err() || claimed.await.is_err() {
        // If this fails it ends by itself, as if its holder had died.
        let _ = client.ask(giving_back(place, id), &client.one_exchange()).await;
    }
}

/// The lease that an answer names. One that names none gives none, whatever it says: what cannot be given back is not held.
fn lease_id(answer: &Answer) -> Option<HeaderValue> {
    let document: Json = serde_json::from_slice(&answer.body).ok()?;
    as_header(document.get("lock_id")?.as_str()?)
}
