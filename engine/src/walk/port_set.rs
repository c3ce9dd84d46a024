//! Ports of UDP sockets, as a scan shows them.

use panoptes_tables::room;

/// Words of a set of ports.
const WORDS: usize = (1 << 16) / 64;

/// A set of ports.
#[derive(Clone, Debug)]
pub struct PortSet(Box<[u64; WORDS]>);

impl Default for PortSet {
    fn default() -> Self {
        Self::new()
    }
}

impl PortSet {
    /// Makes an empty set.
    fn new() -> Self {
        Self(room::boxed([0; WORDS]))
    }

    /// Adds a port.
    pub fn insert(&mut self, port: u16) {
        self.0[usize::from(port >> 6)] |= 1 << (port & 63);
    }

    /// Whether it has a port.
    pub fn has(&self, port: u16) -> bool {
        self.0[usize::from(port >> 6)] & 1 << (port & 63) != 0
    }

    /// Adds all ports of another set.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(own, other)| *own |= other);
    }

    /// Removes all ports.
    pub fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// The ports of all UDP sockets.
#[derive(Clone, Debug, Default)]
pub struct UdpPorts {
    pub all: PortSet,
    /// Whether the scan has read all tables to their ends.
    pub is_whole: bool,
    /// Whether the kernel may translate addresses and ports (NAT), or it is not known.
    pub may_translate: bool,
}

impl UdpPorts {
    pub(super) fn clear(&mut self) {
        self.all.clear();
        (self.is_whole, self.may_translate) = (false, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_added() {
        let mut set = PortSet::default();
        let ports = [0, 1, 63, 64, 4444, u16::MAX];
        for port in ports {
            set.insert(port);
        }
        let all: Vec<u16> = (0..=u16::MAX).filter(|&port| set.has(port)).collect();
        assert_eq!(all, ports);
        let mut other = PortSet::default();
        other.insert(77);
        other.add(&set);
        assert!(other.has(77) && other.has(4444) && !set.has(77));
        other.clear();
        assert!((0..=u16::MAX).all(|port| !other.has(port)));
    }
}
