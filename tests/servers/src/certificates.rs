//! Certificates made for one test run: an authority that nobody else trusts, and what it signs, right and wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// An authority in a directory of its own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
    ca: PathBuf,
    made: AtomicU32,
}

/// A certificate and its key, as PEM files that live as long as the authority.
#[derive(Debug, Clone)]
pub struct Identity {
    cert: PathBuf,
    key: PathBuf,
}

impl Identity {
    /// The certificate.
    pub fn cert(&self) -> &Path {
        &self.cert
    }

    /// Its private key.
    pub fn key(&self) -> &Path {
        &self.key
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "cachekit test authority");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("the system has randomness");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the parameters are ours");
        let dir = tempfile::Builder::new().prefix("certificates-").tempdir().expect("a place for temporary files");
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, issuer.pem()).expect("the directory is ours");
        Self { issuer, dir, ca, made: AtomicU32::new(0) }
    }

    /// The authority's certificate, a PEM file.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// The same as text.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server that is who it says: host names and addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.sign(names, (2020, 2090))
    }

    /// A server whose certificate ended in 2021.
    pub fn expired(&self, names: &[&str]) -> Identity {
        self.sign(names, (2020, 2021))
    }

    fn sign(&self, names: &[&str], (from, until): (i32, i32)) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the test's names are names");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, "cachekit test server");
        let key = KeyPair::generate().expect("the system has randomness");
        let cert = params.signed_by(&key, &*self.issuer).expect("the parameters are ours");
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let identity = Identity {
            cert: self.dir.path().join(format!("server-{number}.pem")),
            key: self.dir.path().join(format!("server-{number}-key.pem")),
        };
        fs::write(&identity.cert, cert.pem()).expect("the directory is ours");
        fs::write(&identity.key, key.serialize_pem()).expect("the directory is ours");
        identity
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("ca", &self.ca).finish_non_exhaustive()
    }
}
