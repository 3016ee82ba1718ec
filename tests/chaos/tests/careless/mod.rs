//! The control of the whole: a client of Redis that keeps using a connection whose reply was never read.

use std::io;

use bytes::Bytes;
use cachekit_plugin::{Backend, BackendError, Cx, Fut, Health, Key, Kind, Limits, Operation, Ttl, ready};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// One connection, one exchange at a time, and no thought of what a dropped future leaves behind.
pub(crate) struct Careless {
    address: String,
    stream: Mutex<Option<BufReader<TcpStream>>>,
}

impl Careless {
    pub(crate) fn connect(address: &str) -> Self {
        Self { address: address.to_owned(), stream: Mutex::new(None) }
    }

    async fn exchange(&self, arguments: &[&[u8]]) -> io::Result<Option<Bytes>> {
        let mut stream = self.stream.lock().await;
        if stream.is_none() {
            *stream = Some(BufReader::new(TcpStream::connect(&self.address).await?));
        }
        let stream = stream.as_mut().ok_or_else(|| io::Error::other("it was just connected"))?;
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            request.extend_from_slice(argument);
            request.extend_from_slice(b"\r\n");
        }
        stream.write_all(&request).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some(length) = line.strip_prefix('$') else { return Ok(None) };
        let Ok(length) = length.trim().parse::<usize>() else { return Ok(None) };
        let mut value = vec![0; length + 2];
        stream.read_exact(&mut value).await?;
        value.truncate(length);
        Ok(Some(value.into()))
    }
}

async fn within<T>(
    cx: &Cx<'_>,
    operation: Operation,
    exchange: impl Future<Output = io::Result<T>>,
) -> Result<T, BackendError> {
    let left = cx.deadline.remaining().unwrap_or(std::time::Duration::MAX);
    let answer = tokio::time::timeout(left, exchange).await;
    let answer = answer.map_err(|_| BackendError::new(Kind::Timeout, operation, "too late"))?;
    answer.map_err(|error| BackendError::new(Kind::Transient, operation, error.to_string()))
}

impl Backend for Careless {
    fn limits(&self) -> Limits {
        Limits::new(1 << 10, 1 << 20)
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move { within(cx, Operation::Get, self.exchange(&[b"GET", key.as_bytes()])).await })
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, _: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(
            async move { within(cx, Operation::Set, self.exchange(&[b"SET", key.as_bytes(), &value])).await.map(drop) },
        )
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(
            async move { within(cx, Operation::Delete, self.exchange(&[b"DEL", key.as_bytes()])).await.map(|_| true) },
        )
    }

    fn exists<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        ready(Ok(false))
    }

    fn health<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, Health> {
        ready(Err(BackendError::new(Kind::Unsupported, Operation::Health, "not asked")))
    }

    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        ready(Ok(()))
    }
}
