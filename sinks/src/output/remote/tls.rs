//! TLS over a socket's stream of bytes.
//!
//! The receiver's certificate is always verified. Nothing here does I/O on the connection: bytes of
//! TLS go into the socket and come from it.
//!
//! The peer's kernel confirms bytes of TLS. So each mark has a place in the stream of records, and
//! the place in the stream of TLS behind which all of it lies.
//!
//! In TLS 1.3 a client may send before the receiver has looked at its certificate. What a receiver
//! gets that refuses it then is lost, so nothing is confirmed until the receiver has answered
//! something, or could have done so for a while.
//!
//! Handshakes and records of TLS allocate.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, InvalidMessage,
    ProtocolVersion, RootCertStore,
};

use super::http::printable;

/// How a receiver proves who it is, and this side to it.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificates that may sign the receiver's; without a file, those of this machine.
    pub ca: Option<PathBuf>,
    /// The own certificate, with those that sign it, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The name, or the address, that the receiver's certificate must have.
    pub server_name: String,
}

/// What all connections to one receiver have in common.
#[derive(Debug)]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl TlsConnector {
    /// Reads the files. `protocol` is the one that is used over the connections, if receivers of
    /// several tell them apart by its name (ALPN).
    pub fn read(files: &TlsFiles, protocol: Option<&str>) -> io::Result<Self> {
        let name = files.server_name.clone();
        let server_name = ServerName::try_from(name).map_err(|_| {
            let name = &files.server_name;
            io::Error::other(format!("`{name}` is no valid name for a certificate"))
        })?;
        let roots = match &files.ca {
            Some(path) => roots_of(path)?,
            None => roots_of_machine()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let mut config = match &files.own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let fits = |error| {
                    let (certificate, key) = (certificate.display(), key.display());
                    io::Error::other(format!("{certificate} and {key} do not fit: {error}"))
                };
                let (chain, key) = (certificates(certificate)?, private_key(key)?);
                config.with_client_auth_cert(chain, key).map_err(fits)?
            }
        };
        config.alpn_protocols.extend(protocol.map(|name| name.as_bytes().to_vec()));
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// Begins a connection.
    pub(super) fn begin(&self) -> io::Result<Session> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.server_name.clone());
        Ok(Session {
            connection: connection.map_err(|error| failure(&error))?,
            taken: 0,
            written: 0,
            marks: VecDeque::new(),
            arrived: 0,
            received: Vec::new(),
            is_closed: false,
            ready_ns: None,
            is_accepted: false,
        })
    }
}

fn roots_of(path: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, &error))?;
    }
    Ok(roots)
}

fn roots_of_machine() -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // Machines have old ones that cannot be used.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let none = "this machine has no certificates of authorities (package ca-certificates); \
                    set `tls.ca`";
        return Err(io::Error::new(io::ErrorKind::NotFound, none));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(unusable(path, &"it has no certificate (-----BEGIN CERTIFICATE-----)")),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn private_key(path: &Path) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| {
        unusable(path, &"it has no private key in PEM form; an encrypted one cannot be read")
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn unusable(path: &Path, why: &impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    connection: ClientConnection,
    /// Bytes of records that were taken.
    taken: u64,
    /// Bytes of TLS that were written.
    written: u64,
    marks: VecDeque<TlsStreamMark>,
    /// The last place in the records that has arrived.
    arrived: u64,
    /// What the receiver has sent, since the last step.
    received: Vec<u8>,
    /// The receiver has ended the connection in good order.
    is_closed: bool,
    /// When the handshake was over.
    ready_ns: Option<u64>,
    /// Whether the receiver has accepted this side.
    is_accepted: bool,
}

/// A place in the records, and one in the stream of TLS.
#[derive(Clone, Copy, Debug)]
struct TlsStreamMark {
    record: u64,
    stream: u64,
}

/// The bytes that are encrypted at a time: the most that a record of TLS can have.
const PIECE_BYTES: usize = 16 * 1024;
/// More than the records that lie between this side and a receiver's kernel.
const MARKS_MAX: usize = 4096;
/// A receiver that refuses the certificate of this side has time for that.
const ACCEPTANCE_NS: u64 = 3_000_000_000;

impl Session {
    /// Whether the handshake is over.
    pub(super) fn is_ready(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Takes bytes of records and passes them on to `write`, which returns how many it took.
    pub(super) fn append(&mut self, bytes: &[u8], mut write: impl FnMut(&[u8]) -> usize) -> usize {
        let mut taken = 0;
        for piece in bytes.chunks(PIECE_BYTES) {
            self.flush(&mut write);
            if !self.is_ready() || self.connection.wants_write() {
                break;
            }
            let count = self.connection.writer().write(piece).unwrap_or(0);
            taken += count;
            self.taken += count as u64;
            self.flush(&mut write);
            if count < piece.len() {
                break;
            }
        }
        taken
    }

    /// Passes what is to be sent on to `write`.
    pub(super) fn flush(&mut self, write: impl FnMut(&[u8]) -> usize) {
        let mut out = TlsWriter { write, count: 0 };
        while self.connection.wants_write() && self.connection.write_tls(&mut out).is_ok() {}
        self.written += out.count;
        let known = self.marks.back().map_or(self.arrived, |mark| mark.record);
        if !self.connection.wants_write() && known < self.taken {
            if self.marks.len() == MARKS_MAX {
                self.marks.pop_back();
            }
            self.marks.push_back(TlsStreamMark { record: self.taken, stream: self.written });
        }
    }

    /// Takes what has arrived.
    pub(super) fn take(&mut self, mut bytes: &[u8], now_ns: u64) -> io::Result<()> {
        self.received.clear();
        if self.is_closed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !bytes.is_empty() && self.connection.read_tls(&mut bytes)? > 0 {
            let state = self.connection.process_new_packets().map_err(|error| failure(&error))?;
            let start = self.received.len();
            self.received.resize(start + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut self.received[start..])?;
            self.is_closed = state.peer_has_closed();
        }
        if self.is_ready() {
            let ready_ns = *self.ready_ns.get_or_insert(now_ns);
            let is_tls_12 = self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_2);
            self.is_accepted |= is_tls_12
                || !self.received.is_empty()
                || self.connection.tls13_tickets_received() > 0
                || now_ns >= ready_ns.saturating_add(ACCEPTANCE_NS);
        }
        Ok(())
    }

    /// What the last step has received.
    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Bytes of records that have arrived, of which so many bytes of TLS are known to have.
    pub(super) fn arrived(&mut self, stream: u64) -> u64 {
        if !self.is_accepted {
            return 0;
        }
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.stream <= stream) {
            self.arrived = mark.record;
        }
        self.arrived
    }

    /// Announces the end of the connection.
    pub(super) fn end(&mut self) {
        self.connection.send_close_notify();
    }
}

/// Where bytes of TLS go.
struct TlsWriter<W> {
    write: W,
    count: u64,
}

impl<W: FnMut(&[u8]) -> usize> Write for TlsWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = (self.write)(bytes);
        self.count += count as u64;
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why there is no connection, with what to do about it.
fn failure(error: &rustls::Error) -> io::Error {
    use rustls::Error::{AlertReceived, InvalidCertificate};

    let text = match error {
        InvalidCertificate(error) => refused(error),
        AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired | AlertDescription::AccessDenied => {
                "the receiver demands a certificate of its senders; set `tls.certificate` and \
                 `tls.key`"
                    .to_owned()
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate => format!(
                "the receiver refuses the certificate in `tls.certificate`, or the lack of one \
                 ({alert:?}); its log should have the reason"
            ),
            alert => {
                format!("the receiver has refused ({alert:?}); its log should have the reason")
            }
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the receiver does not speak TLS on this port".to_owned()
        }
        error => error.to_string(),
    };
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Why the receiver's certificate is not accepted.
fn refused(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "nobody who is trusted has signed the receiver's \
             certificate; name the file of who has in `tls.ca`"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the receiver's certificate is not for `{}`, but for {}; set `tls.server_name`",
            expected.to_str(),
            if presented.is_empty() {
                "no name".to_owned()
            } else {
                printable(&presented.join(", "))
            },
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the receiver's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the receiver's certificate is not valid yet; is the clock of this machine right?"
                .to_owned()
        }
        error => match format!("{error:?}") {
            text if text.contains("CaUsedAsEndEntity") => "the receiver shows the certificate of \
                 an authority as its own; make one for it that the authority signs"
                .to_owned(),
            text => format!("the receiver's certificate cannot be used: {}", printable(&text)),
        },
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::version::TLS13;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    /// Both ends of a connection. The server sends so many tickets.
    fn ends(tickets: usize) -> (Session, ServerConnection) {
        let params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, certificate.pem()).unwrap();
        let files = TlsFiles { ca: Some(ca), own: None, server_name: "a".to_owned() };
        let session = TlsConnector::read(&files, None).unwrap().begin().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth();
        let mut config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.send_tls13_tickets = tickets;
        (session, ServerConnection::new(Arc::new(config)).unwrap())
    }

    /// Passes what the session has to the server, and back; returns what the server has read.
    fn exchange(session: &mut Session, server: &mut ServerConnection, now_ns: u64) -> Vec<u8> {
        let mut wire = Vec::new();
        session.flush(|bytes| {
            wire.extend_from_slice(bytes);
            bytes.len()
        });
        deliver(&wire, server, session, now_ns)
    }

    fn deliver(
        mut wire: &[u8],
        server: &mut ServerConnection,
        session: &mut Session,
        now_ns: u64,
    ) -> Vec<u8> {
        let mut read = Vec::new();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            let state = server.process_new_packets().unwrap();
            let start = read.len();
            read.resize(start + state.plaintext_bytes_to_read(), 0);
            server.reader().read_exact(&mut read[start..]).unwrap();
        }
        let mut back = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut back).unwrap();
        }
        session.take(&back, now_ns).unwrap();
        read
    }

    /// A server that has answered the session's part of the handshake.
    fn connected(tickets: usize) -> (Session, ServerConnection) {
        let (mut session, mut server) = ends(tickets);
        assert_eq!(session.append(b"early", |_| 0), 0, "the handshake comes first");
        while !session.is_ready() || session.connection.wants_write() {
            exchange(&mut session, &mut server, 0);
        }
        (session, server)
    }

    #[test]
    fn records_have_arrived_when_all_bytes_of_tls_with_them_have() {
        let (mut session, mut server) = connected(1);
        let before = session.written;
        let mut wire = Vec::new();
        let text = vec![b'x'; 3 * PIECE_BYTES + 5];
        // The socket has room for half of a piece at a time.
        let mut taken = 0;
        let mut places = Vec::new();
        while taken < text.len() {
            let mut room = PIECE_BYTES / 2;
            taken += session.append(&text[taken..], |bytes| {
                let count = bytes.len().min(room);
                room -= count;
                wire.extend_from_slice(&bytes[..count]);
                count
            });
            places.push((taken, wire.len()));
        }
        session.flush(|bytes| {
            wire.extend_from_slice(bytes);
            bytes.len()
        });
        for (length, at) in places {
            // What was taken last may lie in what is not yet written.
            let arrived = session.arrived(before + at as u64) as usize;
            assert!(arrived <= length);
            assert!(length - arrived <= PIECE_BYTES);
            assert!(at == wire.len() || arrived < text.len());
        }
        let all = before + wire.len() as u64;
        assert_eq!(session.arrived(all), text.len() as u64);
        assert_eq!(deliver(&wire, &mut server, &mut session, 0), text);
    }

    #[test]
    fn nothing_is_confirmed_before_the_receiver_has_answered_or_had_time_to() {
        let (mut session, mut server) = connected(0);
        assert_eq!(session.append(b"a record", <[u8]>::len), 8);
        assert_eq!(session.arrived(u64::MAX), 0);
        exchange(&mut session, &mut server, ACCEPTANCE_NS - 1);
        assert_eq!(session.arrived(u64::MAX), 0);
        exchange(&mut session, &mut server, ACCEPTANCE_NS);
        assert_eq!(session.arrived(u64::MAX), 8);
        let (mut session, _) = connected(1);
        assert_eq!(session.append(b"a record", <[u8]>::len), 8);
        assert_eq!(session.arrived(u64::MAX), 8, "a ticket comes after the handshake");
    }

    #[test]
    fn the_end_is_announced_and_seen() {
        let (mut session, mut server) = connected(1);
        session.end();
        exchange(&mut session, &mut server, 0);
        assert_eq!(server.reader().read(&mut [0]).unwrap(), 0);
        let (mut session, mut server) = connected(1);
        server.writer().write_all(b"last").unwrap();
        server.send_close_notify();
        exchange(&mut session, &mut server, 0);
        assert_eq!(session.received(), b"last");
        let error = session.take(&[], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
