//! Failures of a Redis, and what they mean to the caller.
//!
//! The table follows the family's (authentication, transient, permanent). The server's own words are handed on where
//! they cannot hold a key or a value; the client library's are not, because some of them quote what they could not read.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cachekit_plugin::{BackendError, Kind, Operation, Retry};
use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

use crate::url::Address;
use crate::wire::Violation;

/// The name of this backend in errors and health.
pub(crate) const BACKEND: &str = "redis";

/// How long to wait before a server that is starting, full or electing is asked again.
const SOON: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Trouble {
    /// The server answered with an error.
    #[error("the server answered {}", words(.0))]
    Server(ServerError),
    /// The exchange broke off.
    #[error("{}", library(.0))]
    Broken(Arc<RedisError>),
    /// There is no connection and it is too early for another attempt.
    #[error("{why} (next attempt in {} ms)", .after.as_millis())]
    Down { why: Arc<Trouble>, after: Duration },
    /// The server sent what it must not.
    #[error("{0}")]
    Violated(Violation),
    #[error("the deadline passed")]
    Late,
    #[error("nothing was heard for {} ms while replies were due; the connection was given up", .0.as_millis())]
    Silent(Duration),
    #[error("opening the connection took longer than socket_connect_timeout ({} ms)", .0.as_millis())]
    SlowConnect(Duration),
    #[error("{0} requests wait for their replies already")]
    Full(u64),
    /// No connection could be opened there: the address says which of several, and holds no credentials.
    #[error("{address}: {why}")]
    At { address: Address, why: Arc<Trouble> },
    #[error("could not connect: {0}")]
    Socket(Arc<io::Error>),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("a value of {len} bytes is larger than max_value allows ({max} bytes)")]
    ValueTooLarge { len: u64, max: u64 },
    #[error("the server's reply is not of the kind the request asks for")]
    WrongReply,
    #[error("no server of the cluster serves the slot of the key")]
    NoOwner,
    #[error("no sentinel names a master: {0}")]
    NoMaster(String),
    #[error("the server that the sentinels name is not a master (yet)")]
    NotMaster,
    #[error("{0}")]
    Unsupported(&'static str),
    /// It answered, and will answer no other way as long as it is this server and this user.
    #[error("the server tells this user of no changes: it answered {}", words(.0))]
    Untold(ServerError),
    #[error("{0}")]
    Refused(String),
    #[error("opened in a parent process; open another one after fork()")]
    Forked,
    /// We ended the connection, or could not begin one.
    #[error("{0}")]
    Ended(&'static str),
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let first =
                    error.clone().into_server_errors().and_then(|all| all.first().map(|(_, error)| error.clone()));
                first.map_or_else(|| Self::Broken(Arc::new(error)), Self::Server)
            }
            _ => Self::Broken(Arc::new(error)),
        }
    }
}

impl Trouble {
    /// The error of the contract.
    pub(crate) fn during(self, operation: Operation) -> BackendError {
        let (kind, retry) = self.class();
        let error = BackendError::new(kind, operation, self.to_string()).on(BACKEND);
        let error = match retry {
            Some(retry) => error.with_retry(retry),
            None => error,
        };
        // Of the library's errors only those of the system go along: their text is the system's.
        match self.io() {
            Some(source) => error.with_source(io::Error::new(source.kind(), source.to_string())),
            None => error,
        }
    }

    fn class(&self) -> (Kind, Option<Retry>) {
        match self {
            // Said instead of the first answer, if the connection's own words were on their way already when it closed the door.
            Self::Server(error) if error.details().is_some_and(|words| words.starts_with("max number of clients")) => {
                (Kind::Transient, Some(Retry::After(SOON)))
            }
            Self::Server(error) => classify(error.kind(), error.code()),
            Self::Broken(error) => match error.kind() {
                ErrorKind::AuthenticationFailed => (Kind::Auth, None),
                ErrorKind::InvalidClientConfig => (Kind::Config, None),
                ErrorKind::Parse | ErrorKind::UnexpectedReturnType => (Kind::Transient, None),
                ErrorKind::Server(kind) => classify(Some(kind), ""),
                ErrorKind::RESP3NotSupported => (Kind::Unsupported, None),
                _ => (Kind::Transient, None),
            },
            Self::Down { why, after } => match why.class() {
                (Kind::Transient | Kind::Timeout, _) => (Kind::Transient, Some(Retry::After(*after))),
                class => class,
            },
            Self::At { why, .. } => why.class(),
            Self::Violated(Violation::TooLong(_)) => (Kind::TooLarge, None),
            // Said before anything was asked: by a server in protected mode, above all.
            Self::Violated(Violation::Refused(words)) => {
                match classify(None, words.split(' ').next().unwrap_or_default()) {
                    (Kind::Internal, _) => (Kind::Transient, None),
                    class => class,
                }
            }
            Self::Violated(_) => (Kind::Transient, None),
            Self::Late => (Kind::Timeout, None),
            Self::Silent(_) | Self::SlowConnect(_) | Self::Socket(_) | Self::Ended(_) => (Kind::Transient, None),
            Self::Full(_) => (Kind::Throttled, None),
            Self::Tls(_) | Self::Refused(_) => (Kind::Config, None),
            Self::ValueTooLarge { .. } => (Kind::TooLarge, None),
            Self::WrongReply => (Kind::Corrupt, None),
            Self::NoOwner | Self::NoMaster(_) | Self::NotMaster => (Kind::Transient, Some(Retry::After(SOON))),
            Self::Unsupported(_) | Self::Untold(_) => (Kind::Unsupported, None),
            Self::Forked => (Kind::Forked, None),
        }
    }

    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Socket(error) => Some(error),
            Self::Broken(error) => error.source().and_then(|source| source.downcast_ref()),
            Self::Down { why, .. } | Self::At { why, .. } => why.io(),
            _ => None,
        }
    }

    /// As the answer to what begins a watch: whether the server can never do it, or only not now.
    pub(crate) fn of_telling(self) -> Self {
        match self {
            Self::Server(error) if is_refusal(&error) => Self::Untold(error),
            Self::At { why, .. } if matches!(&*why, Self::Server(error) if is_refusal(error)) => {
                Arc::unwrap_or_clone(why).of_telling()
            }
            other => other,
        }
    }

    pub(crate) fn server(&self) -> Option<ServerErrorKind> {
        match self {
            Self::Server(error) => error.kind(),
            Self::At { why, .. } => why.server(),
            _ => None,
        }
    }

    /// Whether the request surely was not carried out, so that another server may be asked.
    pub(crate) fn was_not_sent(&self) -> bool {
        match self {
            Self::Down { .. } | Self::Socket(_) | Self::SlowConnect(_) => true,
            Self::At { why, .. } => why.was_not_sent(),
            _ => false,
        }
    }
}

/// What a server's error means. The code is what stands first in its reply.
fn classify(kind: Option<ServerErrorKind>, code: &str) -> (Kind, Option<Retry>) {
    use ServerErrorKind as Server;
    match kind {
        Some(Server::NoPerm) => (Kind::Auth, None),
        Some(
            Server::BusyLoading
            | Server::ReadOnly
            | Server::ClusterDown
            | Server::TryAgain
            | Server::MasterDown
            | Server::Moved
            | Server::Ask,
        ) => (Kind::Transient, Some(Retry::After(SOON))),
        Some(_) => (Kind::Internal, None),
        None => match code {
            "NOAUTH" | "WRONGPASS" => (Kind::Auth, None),
            // Memory comes back when entries expire, not within a retry.
            "OOM" => (Kind::Transient, Some(Retry::No)),
            "MISCONF" | "NOREPLICAS" | "NOGOODSLAVE" => (Kind::Transient, Some(Retry::No)),
            "BUSY" | "NOTREADY" | "IOERR" | "UNBLOCKED" => (Kind::Transient, Some(Retry::After(SOON))),
            // The key holds something that no cache wrote.
            "WRONGTYPE" => (Kind::Corrupt, None),
            "NOPROTO" => (Kind::Unsupported, None),
            "DENIED" => (Kind::Auth, None),
            _ => (Kind::Internal, None),
        },
    }
}

/// Whether a server says that it has no such command, or not for this user. There is one code for most of what goes wrong,
/// also for what passes, so the words decide: those of Redis before 6.0, of servers that speak like it, and of access lists.
fn is_refusal(error: &ServerError) -> bool {
    const WORDS: [&str; 5] =
        ["unknown command", "unknown subcommand", "unsupported command", "syntax error", "wrong number of arguments"];
    if error.kind() == Some(ServerErrorKind::NoPerm) {
        return true;
    }
    let details = error.details().unwrap_or_default().to_ascii_lowercase();
    error.kind() == Some(ServerErrorKind::ResponseError) && WORDS.iter().any(|words| details.starts_with(words))
}

/// The server's words, without what it quotes of the request.
fn words(error: &ServerError) -> String {
    let details = error.details().unwrap_or_default();
    let quoted = [", with args", "'", "\"", "`"].iter().filter_map(|mark| details.find(mark)).min();
    let details = details.get(..quoted.unwrap_or(details.len())).unwrap_or_default().trim_end();
    // `MOVED 866 host:port` and the like hold no key.
    if details.is_empty() { error.code().to_owned() } else { format!("{} {details}", error.code()) }
}

/// What the library's error means, in our words: its own may quote bytes of a reply.
fn library(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::Parse => "the server sent what is not its protocol".into(),
        ErrorKind::Io => match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
            Some(source) => format!("the connection broke: {source}"),
            None => "the connection was closed".into(),
        },
        ErrorKind::AuthenticationFailed => "the server refused user or password".into(),
        _ => error.category().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(reply: &str) -> BackendError {
        let value = redis::parse_redis_value(reply.as_bytes()).unwrap();
        let redis::Value::ServerError(error) = value else { panic!("{reply} is no error") };
        Trouble::Server(error).during(Operation::Get)
    }

    #[test]
    fn errors_are_classed_as_the_family_classes_them() {
        for (reply, kind, retry) in [
            ("-NOAUTH Authentication required.\r\n", Kind::Auth, Retry::No),
            ("-WRONGPASS invalid username-password pair\r\n", Kind::Auth, Retry::No),
            ("-NOPERM no permissions\r\n", Kind::Auth, Retry::No),
            ("-LOADING Redis is loading the dataset in memory\r\n", Kind::Transient, Retry::After(SOON)),
            ("-READONLY You can't write against a read only replica.\r\n", Kind::Transient, Retry::After(SOON)),
            ("-CLUSTERDOWN The cluster is down\r\n", Kind::Transient, Retry::After(SOON)),
            ("-TRYAGAIN Multiple keys\r\n", Kind::Transient, Retry::After(SOON)),
            ("-MASTERDOWN Link with MASTER is down\r\n", Kind::Transient, Retry::After(SOON)),
            ("-OOM command not allowed\r\n", Kind::Transient, Retry::No),
            ("-WRONGTYPE Operation against a key\r\n", Kind::Corrupt, Retry::No),
            ("-ERR unknown command\r\n", Kind::Internal, Retry::No),
            ("-ERR max number of clients reached\r\n", Kind::Transient, Retry::After(SOON)),
        ] {
            let error = of(reply);
            assert_eq!((error.kind(), error.retry()), (kind, retry), "{reply}");
        }
    }

    #[test]
    fn a_server_that_refuses_the_connection_is_classed_by_what_it_says() {
        let class = |words: &str| Trouble::Violated(Violation::Refused(words.into())).class().0;
        assert_eq!(class("DENIED Redis is running in protected mode"), Kind::Auth);
        assert_eq!(class("ERR max number of clients reached"), Kind::Transient);
    }

    #[test]
    fn a_server_that_never_tells_is_told_apart_from_one_that_does_not_yet() {
        for (reply, kind) in [
            ("-NOPERM User plain has no permissions to run the 'client|tracking' command\r\n", Kind::Unsupported),
            ("-ERR Unknown subcommand or wrong number of arguments for 'TRACKING'\r\n", Kind::Unsupported),
            ("-ERR Syntax error, try CLIENT (LIST | KILL | GETNAME | SETNAME)\r\n", Kind::Unsupported),
            ("-ERR syntax error\r\n", Kind::Unsupported),
            ("-ERR unknown command 'HELLO', with args beginning with: '3'\r\n", Kind::Unsupported),
            ("-LOADING Redis is loading the dataset in memory\r\n", Kind::Transient),
            ("-MASTERDOWN Link with MASTER is down\r\n", Kind::Transient),
            ("-ERR max number of clients reached\r\n", Kind::Transient),
            ("-ERR upstream failure\r\n", Kind::Internal),
            ("-NOAUTH Authentication required.\r\n", Kind::Auth),
        ] {
            let value = redis::parse_redis_value(reply.as_bytes()).unwrap();
            let redis::Value::ServerError(error) = value else { panic!("{reply} is no error") };
            let plain = Trouble::Server(error.clone()).of_telling().during(Operation::Watch);
            assert_eq!(plain.kind(), kind, "{reply}");
            let address = Address::Unix("/tmp/s".into());
            let opening = Trouble::At { address, why: Arc::new(Trouble::Server(error)) }.of_telling();
            assert_eq!(opening.during(Operation::Watch).kind(), kind, "{reply}");
        }
    }

    #[test]
    fn what_a_server_quotes_of_a_request_is_left_out() {
        let error = of("-ERR unknown command 'GETX', with args beginning with: 'user:alice' 'secret'\r\n");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("unknown command") && !shown.contains("alice") && !shown.contains("secret"), "{shown}");
        let error = of("-READONLY You can't write against a read only replica.\r\n");
        assert!(error.to_string().contains("READONLY"), "{error}");
    }

    #[test]
    fn a_pause_after_an_outage_says_when_to_come_back() {
        let refused = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        let after = Duration::from_millis(70);
        let error = Trouble::Down { why: Arc::new(Trouble::Socket(refused)), after }.during(Operation::Set);
        assert_eq!((error.kind(), error.retry()), (Kind::Transient, Retry::After(after)));
        assert!(error.to_string().contains("refused"), "{error}");
        assert!(StdError::source(&error).is_some());
    }
}
