//! TLS to a server: who may have signed its certificate.
//!
//! Built once, when the backend is opened, so that a file that cannot be read is an error of the configuration. The
//! provider is named here and not looked up in the process, where another library may have put another one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// A connector that trusts the certificates in `ca_file`, or the system's.
pub(crate) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let roots = match ca_file {
        Some(file) => from_file(file)?,
        None => from_system()?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn from_file(file: &Path) -> Result<RootCertStore, String> {
    let refuse = |reason: String| format!("ca_file = {file:?}: {reason}; takes a file of PEM certificates");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| refuse(error.to_string()))? {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refuse("there is no certificate in it".into()));
    }
    Ok(roots)
}

fn from_system() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system's store may hold relics that cannot be parsed; the others still count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("the system has no certificates to trust: name a ca_file".into());
    }
    Ok(roots)
}

/// What is wrong with the server's certificate, if that is what a handshake failed for.
pub(crate) fn refusal(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match inner {
        rustls::Error::InvalidCertificate(reason) => format!("the server's certificate is refused: {reason}"),
        other => other.to_string(),
    })
}
