//! One server: its address, how to log in, and how a connection to it is opened.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::error::Trouble;
use crate::line::Line;
use crate::link::Pushes;
use crate::tls;
use crate::url::Address;
use crate::wire::{Guarded, Traffic};

/// Requests that wait to be written. Callers beyond it wait too, each in its own future.
const QUEUE: usize = 256;
/// Lets the system find out that the other side is gone while nothing is sent.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// A reply may be longer than a value by what stands around it.
const SLACK: u64 = 64 << 10;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// User, password and database.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) db: u32,
}

/// What all connections of a backend have in common.
pub(crate) struct Manner {
    pub(crate) login: Login,
    /// For the sentinels themselves.
    pub(crate) sentinel_login: Login,
    pub(crate) tls: Option<TlsConnector>,
    pub(crate) keepalive: bool,
    pub(crate) connect_timeout: Duration,
    /// How long a connection may be silent while replies are due.
    pub(crate) patience: Duration,
    pub(crate) max_value: u64,
}

impl Manner {
    /// Opens a connection to the server at `address` as `login`; `pushes` makes it one of the third protocol version.
    pub(crate) async fn open(&self, address: &Address, login: &Login, pushes: Option<Pushes>) -> Result<Line, Trouble> {
        let opening = async {
            let stream = self.stream(address).await?;
            let traffic = Arc::new(Traffic::new());
            let guarded = Guarded::new(stream, Arc::clone(&traffic), self.max_value.saturating_add(SLACK));
            // No SETINFO: servers before 7.2 answer it with an error, and every connection would begin with two.
            let mut info = RedisConnectionInfo::default().set_skip_set_lib_name().set_db(i64::from(login.db));
            if let Some(username) = &login.username {
                info = info.set_username(username);
            }
            if let Some(password) = &login.password {
                info = info.set_password(password);
            }
            // The library's own timer is off: every request has a deadline of its own, and one timer is enough.
            let mut config = AsyncConnectionConfig::new()
                .set_response_timeout(None)
                .set_connection_timeout(None)
                .set_pipeline_buffer_size(QUEUE);
            // Messages are handed on by whoever moves the socket: that must not be a caller in the middle of its request.
            let may_move = pushes.is_none();
            if let Some(pushes) = pushes {
                info = info.set_protocol(ProtocolVersion::RESP3);
                config = config.set_push_sender(pushes);
            }
            let (connection, driver) = MultiplexedConnection::new_with_config(&info, guarded, config).await?;
            Ok(Line::start(connection, Box::pin(driver), traffic, self.patience, may_move))
        };
        let opened = match tokio::time::timeout(self.connect_timeout, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Trouble::SlowConnect(self.connect_timeout)),
        };
        opened.map_err(|why| Trouble::At { address: address.clone(), why: Arc::new(why) })
    }

    async fn stream(&self, address: &Address) -> Result<Pin<Box<dyn Stream>>, Trouble> {
        let socket = |error: io::Error| Trouble::Socket(Arc::new(error));
        let (host, port) = match address {
            Address::Unix(path) => return Ok(Box::pin(UnixStream::connect(path).await.map_err(socket)?)),
            Address::Tcp { host, port } => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await.map_err(socket)?;
        stream.set_nodelay(true).map_err(socket)?;
        let options = SockRef::from(&stream);
        if self.keepalive {
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
            options.set_tcp_keepalive(&keepalive).map_err(socket)?;
        }
        let Some(tls) = &self.tls else {
            return Ok(Box::pin(stream));
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Trouble::Tls("the host's name cannot stand in a certificate".into()))?;
        match tls.connect(name, stream).await {
            Ok(stream) => Ok(Box::pin(stream)),
            Err(error) => Err(match tls::refusal(&error) {
                Some(reason) => Trouble::Tls(reason),
                None => socket(error),
            }),
        }
    }
}
