//! Whom the client believes to be the service: the roots of trust and the one provider of cryptography.
//!
//! The provider is passed explicitly, because a library has no business choosing the one of the whole process. A root
//! certificate of the operator's replaces those of the system: whoever names one means that one.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The system's bundle of all roots is 220 kB.
const MAX_CA_FILE_BYTES: u64 = 4 << 20;

/// The configuration of every connection. `encrypted` says whether there will be any.
pub(crate) fn client_config(ca_file: Option<&Path>, encrypted: bool) -> Result<ClientConfig, String> {
    let roots = match (ca_file, encrypted) {
        (Some(file), _) => roots_in(file).map_err(|reason| format!("ca_file = {file:?}: {reason}"))?,
        (None, true) => roots_of_the_system()?,
        // Nobody is asked to prove anything, so nobody is believed.
        (None, false) => RootCertStore::empty(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn roots_in(path: &Path) -> Result<RootCertStore, String> {
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("takes a file in PEM form, not a directory or a device".into());
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_CA_FILE_BYTES + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_CA_FILE_BYTES {
        return Err(format!("it has more than {MAX_CA_FILE_BYTES} bytes"));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| format!("it is not in PEM form: {error}"))?;
        roots.add(certificate).map_err(|error| format!("it holds a certificate that cannot be a root: {error}"))?;
    }
    if roots.is_empty() { Err("it holds no certificate in PEM form".into()) } else { Ok(roots) }
}

fn roots_of_the_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Some systems carry a root or two that cannot be read; the others are no worse for it.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system has no root certificates; install them (ca-certificates) or name a ca_file".into());
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_root_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let end = "\n-----END CERTIFICATE-----\n";
        for path in [
            dir.path().join("missing.pem"),
            dir.path().to_owned(),
            "/dev/null".into(),
            put("empty.pem", b""),
            put("text.pem", b"no certificate here"),
            put("broken.pem", format!("{begin}!!!{end}").as_bytes()),
            put("nonsense.pem", format!("{begin}AAAA{end}").as_bytes()),
            put("huge.pem", &vec![b' '; MAX_CA_FILE_BYTES as usize + 1]),
        ] {
            let error = client_config(Some(&path), true).unwrap_err();
            assert!(error.starts_with("ca_file"), "{path:?}: {error}");
        }
    }

    #[test]
    fn without_encryption_nobody_is_believed() {
        assert!(client_config(None, false).is_ok());
    }
}
