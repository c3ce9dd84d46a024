//! The thread that resolves a receiver's name: `getaddrinfo` may take half a minute.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::error::{Action, SocketError};
use super::peer::{Peer, PeerAddresses, PeerEndpoint, first};

/// Resolves the name of one receiver. A receiver whose name takes long delays no other.
#[derive(Debug)]
pub struct PeerResolver {
    peer: Peer,
    /// Only if the receiver has a name.
    thread: Option<ResolverThread>,
}

#[derive(Debug)]
struct ResolverThread {
    questions: SyncSender<()>,
    answers: Receiver<io::Result<PeerAddresses>>,
    is_asked: bool,
}

/// The addresses to connect to.
#[derive(Clone, Copy, Debug)]
pub struct ResolvedAddresses(pub(super) PeerAddresses);

impl PeerResolver {
    /// Starts the thread, unless the place is an address or a path. It ends when this is dropped,
    /// or when its last question is answered.
    pub fn start(peer: &Peer) -> Result<Self, SocketError> {
        Self::start_with(peer, |host, port| (host, port).to_socket_addrs())
    }

    fn start_with<I: Iterator<Item = SocketAddr>>(
        peer: &Peer,
        lookup: impl Fn(&str, u16) -> io::Result<I> + Send + 'static,
    ) -> Result<Self, SocketError> {
        let own = peer.clone();
        if peer.known().is_some() {
            return Ok(Self { peer: own, thread: None });
        }
        let (questions, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let run = move || {
            // The C library reads answers of the network, so this thread may do nothing else. A
            // kernel that refuses leaves it what the others have.
            let nothing = CapabilitySet::empty();
            let none =
                CapabilitySets { effective: nothing, permitted: nothing, inheritable: nothing };
            let _ = set_capabilities(None, none);
            let PeerEndpoint::Network { host, port, .. } = own.place() else { return };
            while let Ok(()) = asked.recv() {
                let found = lookup(host, *port).map(first);
                if answer.send(found).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("panoptes-names".to_owned());
        thread.spawn(run).map_err(|cause| SocketError::new(Action::Resolve, peer, cause))?;
        let thread = Some(ResolverThread { questions, answers, is_asked: false });
        Ok(Self { peer: peer.clone(), thread })
    }

    /// Asks for the addresses, unless an answer is still to come.
    pub fn ask(&mut self) {
        if let Some(thread) = &mut self.thread
            && !thread.is_asked
        {
            // It cannot be full: there is one question at a time. A thread that has ended shows
            // when the answer is taken.
            thread.is_asked = thread.questions.try_send(()).is_ok();
        }
    }

    /// The answer, once it is there.
    pub fn answer(&mut self) -> Option<Result<ResolvedAddresses, SocketError>> {
        let Some(thread) = &mut self.thread else {
            return Some(Ok(ResolvedAddresses(self.peer.known().unwrap_or_default())));
        };
        let found = match thread.answers.try_recv() {
            Ok(found) => found,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(io::Error::other("its thread has ended")),
        };
        thread.is_asked = false;
        let found = found.and_then(|addresses| match addresses[0] {
            Some(_) => Ok(ResolvedAddresses(addresses)),
            None => Err(io::Error::other("the name has no address")),
        });
        Some(found.map_err(|cause| SocketError::new(Action::Resolve, &self.peer, cause)))
    }
}

#[cfg(test)]
mod tests {
    use panoptes_bounded as bounded;
    use std::time::{Duration, Instant};

    use super::*;

    fn wait_for_answer(names: &mut PeerResolver) -> Result<ResolvedAddresses, SocketError> {
        let start = Instant::now();
        loop {
            if let Some(answer) = names.answer() {
                return answer;
            }
            assert!(start.elapsed() < Duration::from_mins(1), "no answer");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_slow_name_delays_nobody_and_is_asked_for_once() {
        let (release, is_released) = sync_channel(0);
        let lookup = move |_: &str, port| {
            bounded::recv(&is_released).map_err(io::Error::other)?;
            Ok((1..=20).map(move |last| SocketAddr::from(([192, 0, 2, last], port))))
        };
        let mut names =
            PeerResolver::start_with(&Peer::tcp("logs.example.org", 24224), lookup).unwrap();
        assert!(names.answer().is_none(), "nobody has asked");
        names.ask();
        names.ask();
        assert!(names.answer().is_none(), "it takes its time");
        release.send(()).unwrap();
        let ResolvedAddresses(addresses) = wait_for_answer(&mut names).unwrap();
        assert_eq!(addresses[0], Some(SocketAddr::from(([192, 0, 2, 1], 24224))));
        assert_eq!(addresses[7], Some(SocketAddr::from(([192, 0, 2, 8], 24224))));
        names.ask();
        drop(release);
        let error = wait_for_answer(&mut names).unwrap_err().to_string();
        assert!(error.starts_with("cannot find the address of logs.example.org:24224"), "{error}");
    }

    #[test]
    fn a_lookup_that_panics_or_finds_nothing_is_an_error() {
        let nothing = |_: &str, _| Ok(std::iter::empty());
        let mut names = PeerResolver::start_with(&Peer::udp("logs", 514), nothing).unwrap();
        names.ask();
        assert!(wait_for_answer(&mut names).is_err());
        let panic = |_: &str, _| -> io::Result<std::iter::Empty<_>> { panic!("a test's panic") };
        let mut names = PeerResolver::start_with(&Peer::udp("logs", 514), panic).unwrap();
        for _ in 0..2 {
            names.ask();
            assert!(wait_for_answer(&mut names).is_err());
        }
    }

    #[test]
    fn addresses_and_paths_need_no_thread() {
        for host in ["192.0.2.1", "2001:db8::1"] {
            let mut names = PeerResolver::start(&Peer::tcp(host, 1)).unwrap();
            names.ask();
            let ResolvedAddresses(addresses) = names.answer().unwrap().unwrap();
            assert_eq!(addresses[0], Some(SocketAddr::new(host.parse().unwrap(), 1)));
            assert_eq!(addresses[1], None);
        }
    }
}
