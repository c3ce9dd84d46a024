//! Clients: what they ask for, and what they receive.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::time::Instant;

use panoptes_bounded as bounded;

use super::client::BEGIN_NS;
use super::*;

/// Filters by the first byte of records; an empty expression is a mistake.
fn compile(expression: &str) -> Result<u8, String> {
    expression.bytes().next().ok_or_else(|| "nothing".to_owned())
}

struct Sensor {
    clients: Clients<u8>,
    now_ns: u64,
    events: Vec<ClientEvent>,
}

impl Sensor {
    fn new(access: &str) -> Self {
        let access =
            if access.is_empty() { AllowedNetworks::default() } else { access.parse().unwrap() };
        let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let clients = Clients::listen(&addresses, access, compile).unwrap();
        Self { clients, now_ns: 0, events: Vec::new() }
    }

    fn connect(&self) -> TcpStream {
        bounded::connect(self.clients.addresses().next().unwrap()).unwrap()
    }

    fn step(&mut self) {
        self.events.extend(self.clients.step(b"first", self.now_ns));
    }

    /// Steps until an event of this kind has come.
    fn until(&mut self, is_wanted: fn(&ClientEvent) -> bool) {
        let begin = Instant::now();
        while !self.events.iter().any(is_wanted) {
            assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", self.events);
            self.step();
        }
    }

    fn push(&mut self, record: &[u8]) {
        self.clients.push(record, |filter| record[0] == *filter);
    }
}

/// Connects from another address of this machine.
fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let from = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&from, &SocketAddr::from((source, 0))).unwrap();
    connect(&from, &to).unwrap();
    let stream = TcpStream::from(from);
    stream.set_read_timeout(Some(bounded::BOUND)).unwrap();
    stream
}

fn read<const N: usize>(mut stream: &TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_client_receives_what_its_filter_matches() {
    let mut sensor = Sensor::new("");
    let (filtered, all) = (sensor.connect(), sensor.connect());
    (&filtered).write_all(b"FILTER: b").unwrap();
    (&all).write_all(b"START: ").unwrap();
    sensor.until(|event| matches!(event, ClientEvent::Started(..)));
    let answer = std::thread::spawn(move || {
        let answer = (read(&filtered), read(&filtered));
        (&filtered).write_all(b"START: ").unwrap();
        (answer, filtered)
    });
    let begin = Instant::now();
    while sensor.events.iter().filter(|event| matches!(event, ClientEvent::Started(..))).count() < 2
    {
        assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", sensor.events);
        sensor.step();
    }
    let (answer, filtered) = answer.join().unwrap();
    assert_eq!(answer, (*b"first", *b"OK"));
    for record in [b"a1", b"b1", b"a2", b"b2"] {
        sensor.push(record);
    }
    assert_eq!(sensor.clients.count(), 2);
    sensor.events.extend(sensor.clients.finish(Duration::from_secs(9)));
    assert_eq!(read(&filtered), *b"b1b2");
    assert_eq!(read(&all), *b"firsta1b1a2b2");
    assert_eq!((&all).read(&mut [0]).unwrap(), 0, "the connection has ended");
    assert_eq!(sensor.clients.count(), 0);
}

#[test]
fn a_mistake_in_a_filter_is_answered() {
    let mut sensor = Sensor::new("");
    let client = sensor.connect();
    (&client).write_all(b"FILTER: ").unwrap();
    sensor.until(|event| matches!(event, ClientEvent::Refused(..)));
    assert_eq!(read(&client), *b"firstSY");
    let refused = sensor.events.last().unwrap().to_string();
    assert!(refused.ends_with("was refused: its filter has a mistake: nothing"), "{refused}");
}

#[test]
fn strangers_are_refused() {
    let mut sensor = Sensor::new("10.0.0.0/8,::1");
    let client = sensor.connect();
    sensor.until(|event| matches!(event, ClientEvent::Refused(..)));
    assert_eq!(read(&client), [0x83, 0x81, 0, 1]);
    let mut sensor = Sensor::new("127.0.0.0/8");
    let all: Vec<_> = (0..CLIENTS_MAX).map(|_| sensor.connect()).collect();
    while sensor.clients.count() < CLIENTS_MAX {
        sensor.step();
    }
    let client = sensor.connect();
    sensor.until(|event| matches!(event, ClientEvent::Refused(..)));
    assert_eq!(read(&client), [0x83, 0x82, 0, 1]);
    assert_eq!(all.len(), CLIENTS_MAX);
}

#[test]
fn a_source_with_many_clients_gives_a_place_to_another_one() {
    let mut sensor = Sensor::new("");
    let many: Vec<_> = (0..CLIENTS_MAX).map(|_| sensor.connect()).collect();
    while sensor.clients.count() < CLIENTS_MAX {
        sensor.step();
    }
    let to = sensor.clients.addresses().next().unwrap();
    let other = connect_from(Ipv4Addr::new(127, 9, 9, 9), to);
    sensor.until(|event| matches!(event, ClientEvent::Replaced(_)));
    assert_eq!(sensor.clients.count(), CLIENTS_MAX);
    assert_eq!(read(&other), *b"first");
    assert_eq!(many.len(), CLIENTS_MAX);
}

#[test]
fn a_client_begins_once() {
    let mut sensor = Sensor::new("");
    let client = sensor.connect();
    (&client).write_all(b"FILTER: b").unwrap();
    for _ in 0..50 {
        (&client).write_all(b"\0START: ").unwrap();
    }
    sensor.until(|event| matches!(event, ClientEvent::Started(..)));
    for _ in 0..20 {
        (&client).write_all(b"START: ").unwrap();
        sensor.step();
    }
    let starts = sensor.events.iter().filter(|event| matches!(event, ClientEvent::Started(..)));
    assert_eq!(starts.count(), 1);
    sensor.push(b"b1");
    sensor.events.extend(sensor.clients.finish(Duration::from_secs(9)));
    assert_eq!(read(&client), *b"firstOKb1");
}

#[test]
fn a_client_that_asks_too_much_is_refused() {
    let mut sensor = Sensor::new("");
    let client = sensor.connect();
    let begin = Instant::now();
    while !sensor.events.iter().any(|event| matches!(event, ClientEvent::Refused(..))) {
        assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", sensor.events);
        let _ = (&client).write_all(b"FILTER: b\0");
        sensor.step();
    }
    assert_eq!(sensor.clients.count(), 0);
}

#[test]
fn a_client_that_does_not_begin_is_refused() {
    let mut sensor = Sensor::new("");
    let _client = sensor.connect();
    sensor.until(|event| matches!(event, ClientEvent::Connected(_)));
    sensor.now_ns = BEGIN_NS - 1;
    sensor.step();
    assert_eq!(sensor.clients.count(), 1);
    sensor.now_ns = BEGIN_NS;
    sensor.step();
    assert_eq!(sensor.clients.count(), 0);
}

#[test]
fn a_client_that_does_not_read_delays_nobody() {
    let mut sensor = Sensor::new("");
    let (slow, fast) = (sensor.connect(), sensor.connect());
    for client in [&slow, &fast] {
        client.try_clone().unwrap().write_all(b"START: ").unwrap();
    }
    while sensor.events.iter().filter(|event| matches!(event, ClientEvent::Started(..))).count() < 2
    {
        sensor.step();
    }
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        (&fast).read_to_end(&mut bytes).unwrap();
        bytes.len()
    });
    let record = [b'x'; 1000];
    let mut pushed = 0;
    while !sensor.events.iter().any(|event| matches!(event, ClientEvent::TooSlow(_))) {
        for _ in 0..100 {
            sensor.push(&record);
        }
        pushed += 100;
        sensor.step();
        // The reader may need a processor.
        std::thread::sleep(Duration::from_millis(1));
        assert!(pushed < 1_000_000, "the slow client is still there");
    }
    assert_eq!(sensor.clients.count(), 1);
    sensor.clients.finish(Duration::from_secs(9)).for_each(drop);
    assert_eq!(reader.join().unwrap(), 5 + pushed * record.len());
}

#[test]
fn networks_contain_their_addresses() {
    let access: AllowedNetworks =
        "10.1.0.0/16, 192.168.7.9,2001:db8::/32,0.0.0.0/32".parse().unwrap();
    let allows = |address: &str| access.allows(address.parse().unwrap());
    assert!(allows("10.1.255.3") && allows("192.168.7.9") && allows("2001:db8:1::1"));
    assert!(allows("::ffff:10.1.2.3"), "an IPv4 client of an IPv6 socket");
    assert!(!allows("10.2.0.1") && !allows("192.168.7.8") && !allows("2001:db9::"));
    assert!("0.0.0.0/0".parse::<AllowedNetworks>().unwrap().allows([8, 8, 8, 8].into()));
    for wrong in ["", "10.0.0.0/33", "example.org", "::/129", "10.0.0.1,"] {
        assert!(wrong.parse::<AllowedNetworks>().is_err(), "{wrong}");
    }
}
