//! A server by name: sentinels say which one is the master now.
//!
//! Asked anew for every connection, so that a failover needs no other notice than the connection that breaks. What they
//! name is asked itself for its role, because for some seconds after a failover the old master may still be named.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cachekit_plugin::Cx;
use redis::{Value, cmd};

use crate::endpoint::Manner;
use crate::error::Trouble;
use crate::line::Line;
use crate::link::{Dial, Dialing, Pushes};
use crate::reply;
use crate::url::Address;

/// A name that sentinels know.
pub(crate) struct Sentinels {
    manner: Arc<Manner>,
    sentinels: Vec<Address>,
    master: String,
    /// The sentinel that answered last is asked first.
    first: AtomicUsize,
}

impl Sentinels {
    pub(crate) fn new(manner: Arc<Manner>, sentinels: Vec<Address>, master: String) -> Self {
        Self { manner, sentinels, master, first: AtomicUsize::new(0) }
    }

    /// A connection to the master.
    async fn open(&self, pushes: Option<Pushes>) -> Result<Line, Trouble> {
        let address = self.address().await?;
        let line = self.manner.open(&address, &self.manner.login, pushes).await?;
        let role = line.ask(&cmd("ROLE"), &self.cx()).await?;
        match reply::list(role)?.into_iter().next().map(reply::text).transpose()? {
            Some(role) if role == "master" => Ok(line),
            _ => Err(Trouble::NotMaster),
        }
    }

    fn cx(&self) -> Cx<'static> {
        Cx::within(self.manner.connect_timeout)
    }

    async fn address(&self) -> Result<Address, Trouble> {
        let first = self.first.load(Ordering::Relaxed);
        let mut last = None;
        for turn in 0..self.sentinels.len() {
            let at = (first + turn) % self.sentinels.len();
            match self.ask(&self.sentinels[at]).await {
                Ok(Some(address)) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(address);
                }
                Ok(None) => last = Some("they do not know the name".to_owned()),
                Err(trouble) => last = Some(trouble.to_string()),
            }
        }
        Err(Trouble::NoMaster(last.unwrap_or_default()))
    }

    async fn ask(&self, sentinel: &Address) -> Result<Option<Address>, Trouble> {
        let line = self.manner.open(sentinel, &self.manner.sentinel_login, None).await?;
        let mut question = cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&self.master);
        match line.ask(&question, &self.cx()).await? {
            Value::Nil => Ok(None),
            answer => match &reply::list(answer)?.into_iter().map(reply::text).collect::<Result<Vec<_>, _>>()?[..] {
                [host, port] => {
                    let port = port.parse().map_err(|_| Trouble::WrongReply)?;
                    Ok(Some(Address::Tcp { host: host.clone(), port }))
                }
                _ => Err(Trouble::WrongReply),
            },
        }
    }
}

impl Dial for Sentinels {
    fn dial(&self, pushes: Option<Pushes>) -> Dialing<'_> {
        Box::pin(self.open(pushes))
    }
}
