//! Certificates for tests, made anew for each.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::PathBuf;
use std::sync::Arc;

use panoptes_sinks::output::remote::{TlsConnector, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;

/// An authority that signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    folder: TempDir,
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

/// What a certificate is to be beside its name.
#[derive(Clone, Copy, Default)]
pub(crate) struct Kind {
    pub(crate) is_expired: bool,
    pub(crate) is_authority: bool,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { issuer: Issuer::new(params, key), certificate, folder }
    }

    pub(crate) fn sign(&self, name: &str, kind: Kind) -> Identity {
        let mut params = params(name);
        if kind.is_expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        if kind.is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// Its certificate, in a file.
    pub(crate) fn file(&self) -> PathBuf {
        self.write("ca.pem", &self.certificate.pem())
    }

    /// Writes a file that stays as long as this.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// How a sender that trusts this authority connects to the receiver of this name.
    pub(crate) fn client(&self, server_name: &str, own: Option<&Identity>) -> TlsConnector {
        let own = own.map(|own| {
            let certificate = self.write("own.pem", &own.certificate.pem());
            (certificate, self.write("own.key", &own.key.serialize_pem()))
        });
        let server_name = server_name.to_owned();
        TlsConnector::read(&TlsFiles { ca: Some(self.file()), own, server_name }, None).unwrap()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        Arc::new(roots)
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Identity {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    /// A receiver with this certificate. It demands certificates of this authority, if one is
    /// given.
    pub(crate) fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        demanded: Option<&Authority>,
    ) -> Arc<ServerConfig> {
        let provider = Arc::new(default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let config = match demanded {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let roots = authority.roots();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        Arc::new(config.with_single_cert(self.chain(), key).unwrap())
    }
}
