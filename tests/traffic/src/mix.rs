//! Random mixes of conversations, as an office's network has them.

use crate::between::{Between, Host};
use crate::capture::{Capture, Conversation};
use crate::icmp::Echo;
use crate::kinds::BEGIN_NS;
use crate::link::Arp;
use crate::random::Random;
use crate::tcp::{Closing, Exchange, Opening, Tcp};
use crate::udp::{Dns, Udp};

impl Capture {
    /// A mix of so many conversations. They begin within a time that lets about 200 overlap.
    pub fn mix(seed: u64, conversations: u32) -> Self {
        Self::new(seed).with_mix(conversations)
    }

    /// A mix of at least so many packets.
    pub fn mix_of_packets(seed: u64, packets: usize, snap: Option<usize>) -> Self {
        let mut capture = Self::new(seed);
        if let Some(snap) = snap {
            capture = capture.snapped(snap);
        }
        let mut mixer = Mixer::new(seed);
        while capture.packets() < packets {
            mixer.add(&mut capture);
        }
        capture
    }

    /// So many flows of one small datagram each, a microsecond apart: up to 2^32.
    pub fn short_flows(flows: u32) -> Self {
        let mut capture = Self::new(1);
        for number in 0..flows {
            let [high, low] = [(number >> 16) as u16, number as u16];
            let between = Between::v4(high, [low, 9]);
            Udp::one_way(between, BEGIN_NS + u64::from(number) * 1000, &[18]).write(&mut capture);
        }
        capture
    }

    /// The capture with a mix of so many conversations more.
    #[must_use]
    pub fn with_mix(mut self, conversations: u32) -> Self {
        let mut mixer = Mixer::new(self.seed());
        for _ in 0..conversations {
            mixer.add(&mut self);
        }
        self
    }
}

/// Makes one conversation after the other. No two have the same addresses and ports.
#[derive(Debug)]
struct Mixer {
    random: Random,
    number: u64,
    start_ns: u64,
}

impl Mixer {
    const fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), number: 0, start_ns: BEGIN_NS }
    }

    fn add(&mut self, capture: &mut Capture) {
        self.number += 1;
        self.start_ns += self.random.between(1, 10_000) * 1000;
        match self.random.next() % 100 {
            0..55 => self.tcp().write(capture),
            55..70 => self.udp().write(capture),
            70..90 => self.dns().write(capture),
            90..95 => self.echo().write(capture),
            _ => self.arp().write(capture),
        }
    }

    /// Two hosts. The source port follows from the number, so the ends are new.
    fn between(&mut self, port: u16) -> Between {
        let round = (self.number / 28_000 % 64) as u16;
        let ports = [32_768 + (self.number % 28_000) as u16, port];
        let client = round * 1000 + self.random.between(1, 400) as u16;
        let server = round * 1000 + self.random.between(500, 900) as u16;
        let mut hosts = if self.random.percent(9) {
            [Host::v6(client), Host::v6(server)]
        } else {
            [Host::v4(client), Host::v4(server)]
        };
        if self.random.percent(50) {
            hosts.reverse();
        }
        hosts[1].ttl = self.random.between(40, 64) as u8;
        Between::new(hosts, ports)
    }

    fn tcp(&mut self) -> Tcp {
        let port = [443, 443, 443, 80, 22, 8080, 5432, 25][self.random.between(0, 8) as usize];
        let between = self.between(port);
        let mut tcp = Tcp::new(between, self.start_ns);
        tcp.syn_ack_us = self.random.between(100, 80_000);
        tcp.ack_data_us = self.random.between(20, 2000);
        tcp.sequences = [self.random.next() as u32 >> 1, self.random.next() as u32 >> 1];
        tcp.exchanges.clear();
        for _ in 0..self.random.between(1, 6) {
            let size = if self.random.percent(10) { 80_000 } else { 6000 };
            tcp.exchanges.push(Exchange {
                pause_ns: self.random.between(50, 200_000) * 1000,
                bytes: [
                    self.random.between(80, 1200) as usize,
                    self.random.between(100, size) as usize,
                ],
            });
        }
        match self.random.next() % 100 {
            0..10 => tcp.retransmitted = [0, self.random.between(1, 4) as u32],
            10..14 => tcp.closing = Closing::Reset,
            14..18 => tcp.closing = Closing::Unseen,
            18..23 => tcp.opening = Opening::Refused,
            23..28 => tcp.opening = Opening::Unanswered { retries: 0 },
            _ => {}
        }
        tcp
    }

    fn udp(&mut self) -> Udp {
        let between = self.between(5000);
        let sizes: Vec<usize> = (0..self.random.between(1, 30))
            .map(|_| self.random.between(20, 1400) as usize)
            .collect();
        match self.random.next() % 100 {
            0..20 => Udp::one_way(between, self.start_ns, &sizes),
            20..25 => Udp {
                unreachable_after_ns: Some(30_000_000),
                ..Udp::one_way(between, self.start_ns, &sizes[..1])
            },
            _ => Udp::alternating(between, self.start_ns, &sizes),
        }
    }

    fn dns(&mut self) -> Dns {
        Dns {
            between: self.between(53),
            start_ns: self.start_ns,
            ids: vec![self.random.next() as u16 | 1],
            interval_ns: 1_000_000,
            answer_after_ns: (!self.random.percent(3))
                .then(|| self.random.between(200, 90_000) * 1000),
        }
    }

    fn echo(&mut self) -> Echo {
        let between = self.between(0);
        let count = self.random.between(1, 6) as u16;
        let mut echo = Echo::new(between, self.start_ns, self.number as u16, count);
        echo.reply_after_ns = self.random.between(100, 90_000) * 1000;
        echo
    }

    fn arp(&mut self) -> Arp {
        // Each pair of hosts asks once, so that flows do not merge.
        let number = (self.number % 30_000) as u16;
        let mut arp = Arp::new(Host::v4(number), Host::v4(number + 30_000), self.start_ns);
        if self.random.percent(10) {
            arp.answer_after_ns = None;
        }
        arp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Clock;

    #[test]
    fn a_seed_gives_the_same_mix() {
        let pcap = |seed| Capture::mix(seed, 50).pcap(Clock::Microseconds);
        assert_eq!(pcap(1), pcap(1));
        assert_ne!(pcap(1), pcap(2));
    }

    #[test]
    fn packets_are_in_the_order_of_time() {
        let pcap = Capture::mix_of_packets(3, 2000, Some(96)).pcap(Clock::Nanoseconds);
        let word = |at: usize| {
            let bytes = pcap[at..at + 4].try_into().expect("four bytes");
            u64::from(u32::from_le_bytes(bytes))
        };
        let (mut at, mut last, mut count) = (24, 0, 0);
        while at < pcap.len() {
            let time = word(at) * 1_000_000_000 + word(at + 4);
            assert!(time >= last);
            assert!(word(at + 8) <= 96 && word(at + 8) <= word(at + 12));
            (at, last, count) = (at + 16 + word(at + 8) as usize, time, count + 1);
        }
        assert!(count >= 2000);
    }
}
