//! TLS of our own receivers. They demand a certificate of the authority that signs theirs, too.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// The folder of the files with certificates and keys.
#[derive(Clone, Debug)]
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    /// Those of a receiver with this folder, which is beside those of the others.
    pub(crate) fn of(receiver: &Path) -> Self {
        Self(receiver.with_file_name("certificates"))
    }

    /// Makes an authority, and certificates for receivers and for the sender.
    pub(crate) fn make(&self) -> io::Result<()> {
        fs::create_dir(&self.0)?;
        let params = |name: &str| CertificateParams::new([name.to_owned()]);
        let mut authority = params("an authority").map_err(io::Error::other)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let own = authority.self_signed(&key).map_err(io::Error::other)?;
        fs::write(self.path("ca.pem"), own.pem())?;
        let issuer = Issuer::new(authority, key);
        let receiver = Ipv4Addr::LOCALHOST.to_string();
        for (name, whose) in [("receiver", receiver.as_str()), ("sender", "the sender")] {
            let key = KeyPair::generate().map_err(io::Error::other)?;
            let signed = params(whose).and_then(|params| params.signed_by(&key, &issuer));
            let signed = signed.map_err(io::Error::other)?;
            fs::write(self.path(&format!("{name}.pem")), signed.pem())?;
            fs::write(self.path(&format!("{name}.key")), key.serialize_pem())?;
        }
        Ok(())
    }

    /// The sender's key `tls`.
    pub(crate) fn entry(&self) -> Value {
        json!({
            "ca": self.path("ca.pem"),
            "certificate": self.path("sender.pem"),
            "key": self.path("sender.key"),
        })
    }

    /// How receivers accept connections.
    pub(crate) fn server(&self) -> io::Result<Arc<ServerConfig>> {
        let pem =
            |name: &str| CertificateDer::from_pem_file(self.path(name)).map_err(io::Error::other);
        let mut roots = RootCertStore::empty();
        roots.add(pem("ca.pem")?).map_err(io::Error::other)?;
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(self.path("receiver.key"));
        let key = key.map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![pem("receiver.pem")?], key)
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// The receiver's side of a connection.
pub(crate) fn accept(
    config: &Arc<ServerConfig>,
    stream: TcpStream,
) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}
