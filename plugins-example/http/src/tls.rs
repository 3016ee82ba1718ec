//! Whom we believe to be the server, and how we prove who we are.
//!
//! The provider of cryptography is passed explicitly, because a library has no business choosing the one of the whole
//! process. A root certificate of the operator's replaces those of the system: whoever names one means that one.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The system's bundle of all roots is 220 kB.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// What TLS needs of the options.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Identities<'a> {
    pub(crate) ca_file: Option<&'a Path>,
    /// A file with the chain, and the text of the key.
    pub(crate) client: Option<(&'a Path, &'a str)>,
}

/// The configuration of every connection. `encrypted` says whether there will be any.
pub(crate) fn client_config(identities: Identities<'_>, encrypted: bool) -> Result<ClientConfig, String> {
    let roots = match (identities.ca_file, encrypted) {
        (Some(file), _) => roots_in(file)?,
        (None, true) => roots_of_the_system()?,
        // Nobody is asked to prove anything, so nobody is believed.
        (None, false) => RootCertStore::empty(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots);
    let mut config = match identities.client {
        None => builder.with_no_client_auth(),
        Some((file, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|_| "client_key: leads to something that is no private key in PEM form")?;
            let chain = certificates("client_certificate", file)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("client_certificate and client_key: {error}"))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn roots_in(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca_file", path)? {
        roots
            .add(certificate)
            .map_err(|error| format!("ca_file: holds a certificate that cannot be a root: {error}"))?;
    }
    Ok(roots)
}

fn roots_of_the_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Some systems carry a root or two that cannot be read; the others are no worse for it.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("ca_file: is needed, because this system has no root certificates (ca-certificates)".into());
    }
    Ok(roots)
}

fn certificates(field: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path).map_err(|reason| format!("{field} = {path:?}: {reason}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{field} = {path:?}: holds no certificate in PEM form")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    if !path.is_absolute() {
        return Err("takes an absolute path".into());
    }
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("takes a file in PEM form, not a directory or a device".into());
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_PEM_BYTES + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_PEM_BYTES { Err(format!("has more than {MAX_PEM_BYTES} bytes")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_a_certificate_are_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (begin, end) = ("-----BEGIN CERTIFICATE-----\n", "\n-----END CERTIFICATE-----\n");
        for path in [
            dir.path().join("missing.pem"),
            dir.path().to_owned(),
            "/dev/null".into(),
            "relative.pem".into(),
            put("empty.pem", b""),
            put("text.pem", b"no certificate here"),
            put("broken.pem", format!("{begin}!!!{end}").as_bytes()),
            put("nonsense.pem", format!("{begin}AAAA{end}").as_bytes()),
            put("huge.pem", &vec![b' '; MAX_PEM_BYTES as usize + 1]),
        ] {
            let error = client_config(Identities { ca_file: Some(&path), client: None }, true).unwrap_err();
            assert!(error.starts_with("ca_file"), "{path:?}: {error}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_not_repeated() {
        let client = Some((Path::new("/nowhere.pem"), "hunter2"));
        let error = client_config(Identities { ca_file: None, client }, false).unwrap_err();
        assert!(error.starts_with("client_key") && !error.contains("hunter2"), "{error}");
    }
}
