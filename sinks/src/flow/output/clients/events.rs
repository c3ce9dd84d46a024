//! What an operator wants to know of clients.

use std::fmt;
use std::net::SocketAddr;

use super::PENDING_MAX;
use crate::output::SECOND_NS;

/// Events that are reported one by one, at once; a further one each second.
const AT_ONCE: u64 = 20;
/// How often the others are summed up.
const SUM_NS: u64 = 10 * SECOND_NS;
/// The most letters of a filter that are shown.
const FILTER_LETTERS_MAX: usize = 200;

/// Something that an operator wants to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientEvent {
    Connected(SocketAddr),
    /// It has begun, with this filter.
    Started(SocketAddr, String),
    /// It was refused: why.
    Refused(SocketAddr, String),
    Left(SocketAddr),
    /// It has not read fast enough.
    TooSlow(SocketAddr),
    /// Records that it may want found no room on their way to it.
    Missing(SocketAddr),
    /// A client of a source with fewer has its place.
    Replaced(SocketAddr),
    /// So many further events.
    Further(u64),
}

impl fmt::Display for ClientEvent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected(client) => write!(out, "client {client} has connected"),
            Self::Started(client, filter) if filter.is_empty() => {
                write!(out, "client {client} receives all records")
            }
            Self::Started(client, filter) => {
                let letters = filter.chars().take(FILTER_LETTERS_MAX);
                let shown: String = letters.flat_map(char::escape_debug).collect();
                let rest = if shown.len() < filter.len() { " …" } else { "" };
                write!(out, "client {client} receives records: {shown}{rest}")
            }
            Self::Refused(client, why) => write!(out, "client {client} was refused: {why}"),
            Self::Left(client) => write!(out, "client {client} has left"),
            Self::TooSlow(client) => write!(
                out,
                "client {client} was disconnected: it has not read {} MiB of records",
                PENDING_MAX >> 20
            ),
            Self::Missing(client) => write!(
                out,
                "client {client} was disconnected: records came faster than clients are served"
            ),
            Self::Replaced(client) => write!(
                out,
                "client {client} was disconnected: others need a place, and its source has most"
            ),
            Self::Further(count) => {
                write!(out, "{count} further clients connected, began, left or were refused")
            }
        }
    }
}

/// Events that wait to be reported: strangers cause them, so there is a limit.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: Vec<ClientEvent>,
    now_ns: u64,
    /// Events that may be reported, and up to when their number was raised.
    allowed: u64,
    raised_ns: Option<u64>,
    further: u64,
    next_sum_ns: u64,
}

impl Events {
    /// `now_ns` is a time that never goes back.
    pub(super) fn set_time(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        let Some(raised_ns) = self.raised_ns else {
            (self.allowed, self.raised_ns) = (AT_ONCE, Some(now_ns));
            return;
        };
        let seconds = now_ns.saturating_sub(raised_ns) / SECOND_NS;
        self.allowed = (self.allowed + seconds).min(AT_ONCE);
        self.raised_ns = Some(raised_ns + seconds * SECOND_NS);
        if self.further > 0 && now_ns >= self.next_sum_ns {
            self.next_sum_ns = now_ns + SUM_NS;
            self.waiting.push(ClientEvent::Further(std::mem::take(&mut self.further)));
        }
    }

    pub(super) fn push(&mut self, event: ClientEvent) {
        if self.raised_ns.is_some() && self.allowed == 0 {
            self.further += 1;
            return;
        }
        self.allowed = self.allowed.saturating_sub(1);
        self.waiting.push(event);
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = ClientEvent> {
        self.waiting.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

    #[test]
    fn a_flood_is_summed_up() {
        let mut events = Events::default();
        let mut all = Vec::new();
        for step in 0..1000_u64 {
            events.set_time(step * SECOND_NS / 100);
            events.push(ClientEvent::Left(CLIENT));
            all.extend(events.drain());
        }
        let one_by_one = all.iter().filter(|event| **event == ClientEvent::Left(CLIENT)).count();
        assert_eq!(one_by_one as u64, AT_ONCE + 9);
        events.set_time(60 * SECOND_NS);
        all.extend(events.drain());
        let further = all.iter().filter_map(|event| match event {
            ClientEvent::Further(count) => Some(count),
            _ => None,
        });
        assert_eq!(further.sum::<u64>() + one_by_one as u64, 1000);
        assert!(all.len() < 40, "{}", all.len());
    }

    #[test]
    fn a_long_filter_is_cut_in_messages() {
        let filter = "port 1 or ".repeat(400);
        let message = ClientEvent::Started(CLIENT, filter).to_string();
        assert!(message.len() < 300 && message.ends_with('…'), "{message}");
    }
}
