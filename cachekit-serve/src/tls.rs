//! TLS for the listening side: rustls on ring, 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::error::ServeError;

/// Makes an acceptor of a chain and its key, both PEM.
pub(crate) fn acceptor(certificates: &[u8], key: &[u8]) -> Result<TlsAcceptor, ServeError> {
    let refuse =
        |what: &'static str| move |error: &dyn fmt::Display| ServeError::Tls { what, reason: error.to_string() };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse("certificate")(&error))?;
    if chain.is_empty() {
        return Err(refuse("certificate")(&"the file holds none"));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| refuse("key")(&error))?;
    // Named here, so that nothing depends on what the process installed.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse("provider")(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| refuse("certificate")(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
