//! Many keys in one exchange: each server gets its share at once, and answers for itself.
//!
//! The shares go out together and are waited for together, so a batch takes as long as its slowest server, and a server that
//! does not answer costs its own items alone: each item has its own answer or its own error.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use cachekit_plugin::Cx;

use crate::client::{Client, connection_for, exchange, may_repeat};
use crate::command::Command;
use crate::connection::Connection;
use crate::error::Failure;
use crate::inbox::Outcome;
use crate::reply::Reply;
use crate::server::Server;

/// Items that go to one connection.
struct Share<'a> {
    server: &'a Arc<Server>,
    connection: Arc<Connection>,
    commands: Vec<Command<'a>>,
    /// Where the items stand in the batch.
    places: Vec<usize>,
}

impl Client {
    /// The answer to each of `items`, in their order.
    pub(crate) async fn ask_many<'a>(
        &'a self,
        items: Vec<Result<Command<'a>, Failure>>,
        cx: &Cx<'_>,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        self.check_process()?;
        let mut answers: Vec<Option<Result<Reply, Failure>>> = Vec::with_capacity(items.len());
        answers.resize_with(items.len(), || None);
        let mut asking = Vec::with_capacity(items.len());
        for (place, item) in items.into_iter().enumerate() {
            match item {
                Ok(command) => asking.push((place, command)),
                Err(failure) => answers[place] = Some(Err(failure)),
            }
        }
        // Twice at most: what was lost without a trace is sent once more.
        for again in [true, false] {
            if asking.is_empty() || cx.deadline.has_passed() {
                break;
            }
            let shares = self.shares(std::mem::take(&mut asking), &mut answers);
            let exchanges = shares.into_iter().map(|share| {
                Box::pin(async move {
                    let outcomes = exchange(share.server, &share.connection, &share.commands, cx.deadline).await;
                    (share, outcomes)
                })
            });
            for (share, outcomes) in together(exchanges.collect()).await {
                let mut outcomes = outcomes?.into_iter();
                for (place, command) in share.places.into_iter().zip(share.commands) {
                    match outcomes.next().unwrap_or(Outcome::Late) {
                        Outcome::Lost { lost, sent } if again && may_repeat(&command, &lost, sent) => {
                            asking.push((place, command));
                        }
                        outcome => answers[place] = Some(outcome.into_reply()),
                    }
                }
            }
            // Items of one key keep their order.
            asking.sort_unstable_by_key(|(place, _)| *place);
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Err(Failure::Late))).collect())
    }

    /// Sorts items by the connection they go to. Those without one are answered.
    fn shares<'a>(
        &'a self,
        asking: Vec<(usize, Command<'a>)>,
        answers: &mut [Option<Result<Reply, Failure>>],
    ) -> Vec<Share<'a>> {
        let mut shares: Vec<Share<'a>> = Vec::new();
        // One connection per server and batch, so that a share leaves in one piece.
        let mut chosen: Vec<(usize, Arc<Connection>)> = Vec::new();
        for (place, command) in asking {
            let index = self.place(&command.key);
            let server = self.server(index);
            let kept = server.unsettled.connection_of(command.key.as_bytes());
            let usual = chosen.iter().find(|(of, _)| *of == index).map(|(_, connection)| Arc::clone(connection));
            let connection = match (kept, usual) {
                (Some(connection), _) | (None, Some(connection)) => connection,
                (None, None) => match connection_for(server, &command.key) {
                    Ok(connection) => {
                        chosen.push((index, Arc::clone(&connection)));
                        connection
                    }
                    Err(failure) => {
                        answers[place] = Some(Err(failure));
                        continue;
                    }
                },
            };
            let share = match shares.iter_mut().position(|share| Arc::ptr_eq(&share.connection, &connection)) {
                Some(known) => &mut shares[known],
                None => {
                    shares.push(Share { server, connection, commands: Vec::new(), places: Vec::new() });
                    let new = shares.len() - 1;
                    &mut shares[new]
                }
            };
            share.commands.push(command);
            share.places.push(place);
        }
        shares
    }
}

/// Drives all of them in the caller's task; as many as there are servers, so each turn may look at each.
pub(crate) async fn together<F: Future>(futures: Vec<Pin<Box<F>>>) -> Vec<F::Output> {
    let mut slots: Vec<Result<Pin<Box<F>>, F::Output>> = futures.into_iter().map(Ok).collect();
    poll_fn(|context| {
        let mut waiting = false;
        for slot in &mut slots {
            if let Ok(future) = slot {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *slot = Err(output),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    slots.into_iter().filter_map(Result::err).collect()
}
