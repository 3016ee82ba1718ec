//! Redis behind TLS, with the right certificate and with wrong ones.

use std::ops::Deref;
use std::path::Path;

use super::{Options, Redis};
use crate::certificates::{Authority, Identity};
use crate::process::free_port;

/// A server that speaks TLS on one port and, for the test's own commands, plain text on another.
#[derive(Debug)]
pub struct Tls {
    redis: Redis,
    port: u16,
    authority: std::path::PathBuf,
}

impl Tls {
    /// With a certificate for `localhost` and `127.0.0.1`.
    pub fn start(authority: &Authority) -> Self {
        Self::with(authority, &authority.server(&["localhost", "127.0.0.1"]))
    }

    /// With a certificate for somebody else.
    pub fn wrong_name(authority: &Authority) -> Self {
        Self::with(authority, &authority.server(&["elsewhere.example"]))
    }

    /// With a certificate that ended years ago.
    pub fn expired(authority: &Authority) -> Self {
        Self::with(authority, &authority.expired(&["localhost", "127.0.0.1"]))
    }

    /// With any certificate.
    pub fn with(authority: &Authority, identity: &Identity) -> Self {
        let port = free_port();
        let file = |path: &Path| path.to_str().expect("temporary directories are text").to_owned();
        let (cert, key, ca) = (file(identity.cert()), file(identity.key()), file(authority.ca()));
        let (tls_port, no) = (port.to_string(), "no");
        let redis = Options::new()
            .with(&["--tls-port", &tls_port, "--tls-cert-file", &cert, "--tls-key-file", &key])
            .with(&["--tls-ca-cert-file", &ca, "--tls-auth-clients", no])
            .start();
        Self { redis, port, authority: authority.ca().to_owned() }
    }

    /// `rediss://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }

    /// The port that speaks TLS.
    pub fn tls_port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority, a PEM file.
    pub fn ca(&self) -> &Path {
        &self.authority
    }
}

impl Deref for Tls {
    type Target = Redis;

    fn deref(&self) -> &Redis {
        &self.redis
    }
}
