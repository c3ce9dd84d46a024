//! Keys of encrypted connections: the next one is made with them.

#[path = "../../../../../../../sinks/tests/common/certificates.rs"]
mod certificates;

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use panoptes_bounded as bounded;
use rustls::version::TLS13;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use self::certificates::{Authority, Identity, Kind};
use super::super::load::*;
use super::super::*;

const NAME: &str = "logs.example.com";

/// A receiver that demands certificates; its address, and how many bytes have arrived.
fn receive(config: Arc<ServerConfig>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, bytes) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&bytes);
    thread::spawn(move || {
        for stream in bounded::incoming(&listener) {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let mut room = vec![0; 1 << 16];
            while let Ok(length @ 1..) = stream.read(&mut room) {
                count.fetch_add(length, Ordering::Relaxed);
            }
        }
    });
    (address, bytes)
}

/// Files of a certificate and its key.
fn files(authority: &Authority, of: &Identity) -> (Value, Value) {
    let certificate = authority.write("own.pem", &of.certificate.pem());
    let key = authority.write("own.key", &of.key.serialize_pem());
    (json!(certificate), json!(key))
}

/// Changes keys of a connection that works to others, with which it fails for a reason with these
/// words.
fn check(change: impl FnOnce(&Authority) -> Vec<(&'static str, Value)> + Send, why: &str) {
    let (authority, other) = (Authority::new("an authority"), Authority::new("another authority"));
    let identity = authority.sign(NAME, Kind::default());
    let (address, bytes) = receive(identity.server(&[&TLS13], Some(&authority)));
    let (certificate, key) = files(&authority, &authority.sign("me", Kind::default()));
    let receiver = json!([{
        "transport": "tls",
        "address": address.to_string(),
        "tls": {
            "ca": authority.file(),
            "certificate": certificate,
            "key": key,
            "server_name": NAME,
        },
    }]);
    let _ = watch(&[("output.telemetry", receiver)], REAL, |service| {
        service.driver.wait_for("records", || bytes.load(Ordering::Relaxed) > 0);
        assert_eq!(service.driver.kept.count("it is tried again"), 0);
        service.set(&change(&other));
        service.driver.wait("it is tried again", 1);
        assert!(service.driver.kept.count(why) > 0, "{}", service.driver.kept.text());
    });
}

#[test]
fn another_authority_of_a_receiver_applies_to_the_next_connection() {
    let change = |other: &Authority| vec![("output.telemetry[0].tls.ca", json!(other.file()))];
    check(change, "nobody who is trusted has signed the receiver's certificate");
}

#[test]
fn another_name_of_a_receiver_applies_to_the_next_connection() {
    let change =
        |_: &Authority| vec![("output.telemetry[0].tls.server_name", json!("other.example.com"))];
    check(change, "the receiver's certificate is not for `other.example.com`");
}

#[test]
fn another_certificate_and_its_key_apply_to_the_next_connection() {
    let change = |other: &Authority| {
        let (certificate, key) = files(other, &other.sign("me", Kind::default()));
        vec![
            ("output.telemetry[0].tls.certificate", certificate),
            ("output.telemetry[0].tls.key", key),
        ]
    };
    check(change, "the receiver");
}
