//! Clients that connect over TCP and receive records: `ra -S HOST`, `radium`, and their like.
//!
//! The protocol is that of argus 3.0.8 (`argus/ArgusOutput.c`): the sensor sends a management
//! record; the client may send `FILTER: ` and an expression, which the sensor answers with `OK` or
//! `SY`; after `START: ` the records follow, until the client closes or sends `DONE: `.
//!
//! A client is a stranger. It has a few seconds to begin, a few messages of limited length, and
//! room for a limited number of bytes that it has not read. A client that exceeds its room is
//! disconnected, so that it knows that records are missing. If there are too many clients,
//! one of the source that has most of them gives its place to one of a source with few.

mod client;
mod events;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::time::Duration;

use self::client::Client;
pub use self::events::ClientEvent;
use self::events::Events;

/// The port of argus.
pub const PORT: u16 = 561;
/// Clients at once (`ARGUS_MAXLISTEN`).
const CLIENTS_MAX: usize = 10;
/// What a refused client receives: an error, and the reason that there are too many (2) or that it
/// has no access (1).
const REFUSAL: [u8; 4] = [0x83, 0x80, 0, 1];
const TOO_MANY: u8 = 2;
const NO_ACCESS: u8 = 1;
/// Bytes that may wait for a client.
const PENDING_MAX: usize = 4 << 20;

/// Networks from which clients may connect.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AllowedNetworks(Vec<(IpAddr, u8)>);

impl AllowedNetworks {
    /// Whether a client may connect. Without networks, everybody may.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.is_empty()
            || self.0.iter().any(|(network, length)| within(address, *network, *length))
    }
}

impl FromStr for AllowedNetworks {
    type Err = String;

    /// Reads `ADDRESS[/LENGTH][,…]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let network = |word: &str| {
            let (address, length) = word
                .split_once('/')
                .map_or((word, None), |(address, length)| (address, Some(length)));
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let length = match length {
                None => most,
                Some(length) => length.parse().ok().filter(|length| *length <= most)?,
            };
            Some((address, length))
        };
        let networks = text.split(',').map(|word| {
            network(word.trim()).ok_or_else(|| format!("`{word}` is no address and no network"))
        });
        networks.collect::<Result<_, _>>().map(Self)
    }
}

/// Whether an address is in a network.
fn within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let shifted = |bits: u128, width: u32| bits.checked_shr(width - u32::from(length)).unwrap_or(0);
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let bits = |address: std::net::Ipv4Addr| u128::from(address.to_bits());
            shifted(bits(address), 32) == shifted(bits(network), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            shifted(address.to_bits(), 128) == shifted(network.to_bits(), 128)
        }
        _ => false,
    }
}

/// Why clients cannot connect.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {error}")]
pub struct ClientsError {
    pub address: SocketAddr,
    #[source]
    pub error: io::Error,
}

/// All clients, and the addresses where they connect.
#[derive(Debug)]
pub struct Clients<F> {
    listeners: Vec<TcpListener>,
    access: AllowedNetworks,
    /// Reads the expression of a filter.
    compile: fn(&str) -> Result<F, String>,
    all: Vec<Client<F>>,
    events: Events,
}

impl<F> Clients<F> {
    /// Listens. `compile` reads a client's filter; it must not resolve names, which takes time.
    pub fn listen(
        addresses: &[SocketAddr],
        access: AllowedNetworks,
        compile: fn(&str) -> Result<F, String>,
    ) -> Result<Self, ClientsError> {
        let listeners = addresses.iter().map(|address| {
            let listener = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            listener.map_err(|error| ClientsError { address: *address, error })
        });
        let listeners = listeners.collect::<Result<_, _>>()?;
        let (all, events) = (Vec::with_capacity(CLIENTS_MAX), Events::default());
        Ok(Self { listeners, access, compile, all, events })
    }

    /// The addresses where clients connect.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok())
    }

    /// Clients that are connected.
    pub const fn count(&self) -> usize {
        self.all.len()
    }

    /// Takes new clients, which receive `first`, reads what clients send, and sends what waits.
    /// `now_ns` is a time that never goes back.
    pub fn step(&mut self, first: &[u8], now_ns: u64) -> impl Iterator<Item = ClientEvent> {
        self.events.set_time(now_ns);
        for index in 0..self.listeners.len() {
            // As many as one step can serve; the others wait in the kernel's queue.
            for _ in 0..CLIENTS_MAX {
                let Ok((stream, address)) = self.listeners[index].accept() else { break };
                self.welcome(stream, address, first, now_ns);
            }
        }
        for client in &mut self.all {
            client.step(self.compile, &mut self.events, now_ns);
        }
        self.remove_ended();
        self.events.drain()
    }

    fn welcome(&mut self, stream: TcpStream, address: SocketAddr, first: &[u8], now_ns: u64) {
        let refusal = if !self.access.allows(address.ip()) {
            Some((NO_ACCESS, "it has no access"))
        } else if self.all.len() >= CLIENTS_MAX && !self.make_place(address) {
            Some((TOO_MANY, "there are too many clients"))
        } else {
            None
        };
        if let Some((reason, why)) = refusal {
            let mut bytes = REFUSAL;
            bytes[1] |= reason;
            // What cannot be sent at once need not be: the connection ends here.
            let _ = io::Write::write(&mut &stream, &bytes);
            self.events.push(ClientEvent::Refused(address, why.to_owned()));
            return;
        }
        if let Ok(client) = Client::new(stream, address, first, now_ns) {
            self.all.push(client);
            self.events.push(ClientEvent::Connected(address));
        }
    }

    /// Ends the oldest client of the source that has most, if that has two more than the source of
    /// a new one. Whether there is a place now.
    fn make_place(&mut self, new: SocketAddr) -> bool {
        let count = |source: u128| {
            self.all.iter().filter(|client| source_of(client.address()) == source).count()
        };
        let own = count(source_of(new));
        // The first one of several is the oldest.
        let most = self.all.iter().map(|client| count(source_of(client.address()))).max();
        let Some(most) = most.filter(|most| *most > own + 1) else { return false };
        let is_victim = |client: &Client<F>| count(source_of(client.address())) == most;
        let Some(at) = self.all.iter().position(is_victim) else { return false };
        let mut client = self.all.remove(at);
        client.close();
        self.events.push(ClientEvent::Replaced(client.address()));
        true
    }

    /// Sends a record to all clients that have begun, and whose filters match.
    pub fn push(&mut self, record: &[u8], matches: impl Fn(&F) -> bool) {
        for client in self.all.iter_mut().filter(|client| client.has_started()) {
            if client.filter().is_none_or(&matches) {
                client.push(record);
            }
        }
    }

    /// Disconnects all clients that have begun: records for them are lost. What can be sent at once
    /// of what waits is sent.
    pub fn end_started(&mut self) {
        for client in self.all.iter_mut().filter(|client| client.has_started()) {
            client.send(Duration::ZERO);
            client.miss();
        }
        self.remove_ended();
    }

    /// Sends what waits, for up to `wait`, and disconnects all.
    pub fn finish(&mut self, wait: Duration) -> impl Iterator<Item = ClientEvent> {
        let begin = std::time::Instant::now();
        while begin.elapsed() < wait {
            let mut is_idle = true;
            for client in &mut self.all {
                client.send(Duration::from_millis(1));
                is_idle &= client.is_idle();
            }
            if is_idle {
                break;
            }
        }
        self.all.iter_mut().for_each(Client::leave);
        self.remove_ended();
        self.events.drain()
    }

    /// Waits until the clients have room again, for up to `wait`.
    pub fn make_room(&mut self, wait: Duration) {
        let begin = std::time::Instant::now();
        while begin.elapsed() < wait && self.all.iter().any(Client::is_nearly_full) {
            for client in &mut self.all {
                client.send(Duration::from_millis(1));
            }
        }
    }

    fn remove_ended(&mut self) {
        let events = &mut self.events;
        self.all.retain_mut(|client| {
            let Some(event) = client.take_end() else { return true };
            client.close();
            events.push(event);
            false
        });
    }
}

/// Identifies a client by its IPv4 address, or by its IPv6 network of 64 bits, in which it has all
/// addresses.
fn source_of(address: SocketAddr) -> u128 {
    match address.ip().to_canonical() {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests;
