//! What can be typed after `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address and port to listen on; port 0 lets the system choose one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub(crate) listen: SocketAddr,
    /// A tenant and one of its API keys: TENANT=env:NAME, TENANT=file:/path, or TENANT=KEY, which everybody on this
    /// machine can read. Repeatable.
    #[arg(long, value_name = "TENANT=KEY", required = true)]
    pub(crate) api_key: Vec<String>,
    /// Key to /metrics: env:NAME, file:/path, or the key itself. Without it there is no such page.
    #[arg(long, value_name = "KEY")]
    pub(crate) metrics_key: Option<String>,
    /// Certificate chain, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key", required_unless_present = "plain_http")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Speak without TLS, for a proxy on this machine that does. API keys then cross the wire as they are.
    #[arg(long, conflicts_with = "tls_cert")]
    pub(crate) plain_http: bool,
    /// Which keys are taken.
    #[arg(long, value_name = "RULE", default_value = "cachekit-io")]
    pub(crate) keys: Keys,
    /// Life of entries whose writer names none: 10m, 1h, or seconds, at most 30 days. Default: no end.
    #[arg(long, value_name = "TIME", value_parser = super::life)]
    pub(crate) default_ttl: Option<Duration>,
    /// Longest time for the store to answer.
    #[arg(long, value_name = "TIME", value_parser = super::life)]
    pub(crate) deadline: Option<Duration>,
    /// How long a shutdown waits for requests in flight.
    #[arg(long, value_name = "TIME", value_parser = super::life)]
    pub(crate) grace: Option<Duration>,
    /// Connections at a time.
    #[arg(long, value_name = "N")]
    pub(crate) max_connections: Option<usize>,
    /// Requests at a time.
    #[arg(long, value_name = "N")]
    pub(crate) max_in_flight: Option<usize>,
    /// Requests at a time of one tenant.
    #[arg(long, value_name = "N")]
    pub(crate) tenant_in_flight: Option<usize>,
    /// Largest value, bytes.
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_value: Option<usize>,
    /// Bytes of all values on their way in or out.
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_buffered: Option<usize>,
    /// Entries that are fetched from the store at a time; others wait. Until one is there it counts in no other bound.
    #[arg(long, value_name = "N")]
    pub(crate) max_fetches: Option<usize>,
}

/// Which keys a server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keys {
    /// A-Z a-z 0-9 _ . : - and no two dots in a row.
    CachekitIo,
    /// Any bytes.
    Any,
}
