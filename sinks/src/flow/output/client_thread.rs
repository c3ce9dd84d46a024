//! Clients on a thread of their own: what they ask costs the sensor nothing.
//!
//! The sensor adds finished records to a queue, each with what filters look at. The thread applies
//! the filters and sends. Without clients, nothing is added.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::clients::{ClientEvent, Clients};

/// Bytes that wait for the thread, at most.
const QUEUE_BYTES: usize = 8 << 20;
/// Records that wait, at most.
const RECORDS_MAX: usize = 16_384;
/// How long the thread sleeps at most: new clients and commands are looked for in between.
const CLIENTS_TICK: Duration = Duration::from_millis(10);
/// How long a client may need room at the end of a capture before it is disconnected.
const ROOM: Duration = Duration::from_millis(1);

/// The sensor's end.
#[derive(Debug)]
pub struct ClientThread<T> {
    shared: Arc<SharedClientThread<T>>,
    addresses: Vec<SocketAddr>,
    /// Records that were not passed on yet.
    batch: ClientQueue<T>,
}

#[derive(Debug)]
struct SharedClientThread<T> {
    state: Mutex<ClientThreadState<T>>,
    changed: Condvar,
    clients: AtomicUsize,
}

/// Records, and what filters look at.
#[derive(Debug)]
struct ClientQueue<T> {
    bytes: Vec<u8>,
    /// The end of each record in `bytes`.
    records: Vec<(usize, T)>,
}

#[derive(Debug)]
struct ClientThreadState<T> {
    queue: ClientQueue<T>,
    /// Records that the thread has taken from the queue, and may not have passed on yet.
    taken: usize,
    /// Records that found no room, or that time was too short for.
    lost: u64,
    /// Records behind those of the queue are lost: clients are disconnected there.
    has_gap: bool,
    events: Vec<ClientEvent>,
    /// How long the thread may wait for clients at its end.
    last_wait: Option<Duration>,
    is_done: bool,
}

/// What one step of the thread takes.
#[derive(Clone, Copy, Debug)]
struct ClientThreadStep {
    /// Records behind those of the queue are lost.
    has_gap: bool,
    /// The time for the end, once it has come and nothing waits any more.
    last_wait: Option<Duration>,
}

/// What the thread needs to know of records.
pub struct ClientSettings<F, T> {
    /// Makes the record that each client receives first.
    pub first: Box<dyn FnMut() -> Vec<u8> + Send>,
    /// Whether a record matches a filter.
    pub matches: fn(&F, &T) -> bool,
    /// Whether clients that need room are waited for: captures come faster than anybody reads.
    pub waits: bool,
}

impl<T: Send + 'static> ClientThread<T> {
    /// Starts the thread. `enter` runs on it first.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start<F: Send + 'static>(
        clients: Clients<F>,
        greeting: ClientSettings<F, T>,
        enter: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let addresses = clients.addresses().collect();
        let state = ClientThreadState {
            queue: ClientQueue::default(),
            taken: 0,
            lost: 0,
            has_gap: false,
            events: Vec::new(),
            last_wait: None,
            is_done: false,
        };
        let shared = Arc::new(SharedClientThread {
            state: Mutex::new(state),
            changed: Condvar::new(),
            clients: AtomicUsize::new(0),
        });
        let its = Arc::clone(&shared);
        let run = move || {
            let end = ClientThreadGuard(its);
            enter();
            end.0.run(clients, greeting);
        };
        thread::Builder::new().name("clients".to_owned()).spawn(run)?;
        Ok(Self { shared, addresses, batch: ClientQueue::default() })
    }

    /// The addresses where clients connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Clients that are connected.
    #[inline]
    pub fn count(&self) -> usize {
        self.shared.clients.load(Ordering::Relaxed)
    }

    /// Adds a record and what filters look at.
    pub fn push(&mut self, record: &[u8], subject: T) {
        self.batch.bytes.extend_from_slice(record);
        self.batch.records.push((self.batch.bytes.len(), subject));
        if self.batch.bytes.len() >= QUEUE_BYTES / 8 || self.batch.records.len() >= RECORDS_MAX / 8
        {
            self.pass_on();
        }
    }

    /// Passes on what was added. What finds no room is lost for all clients, and the thread
    /// disconnects them, so that they know that records are missing.
    pub fn pass_on(&mut self) {
        if self.batch.records.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        if !state.has_gap && state.queue.has_room(&self.batch) {
            state.queue.append(&mut self.batch);
        } else {
            state.lost += self.batch.records.len() as u64;
            state.has_gap = true;
            self.batch.clear();
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Waits, for up to `wait`, until the thread has taken half of what waits.
    pub fn make_room(&mut self, wait: Duration) {
        self.pass_on();
        let begin = Instant::now();
        let mut state = self.shared.lock();
        while state.queue.is_half_full() && !state.is_done && begin.elapsed() < wait {
            let waited = self.shared.changed.wait_timeout(state, CLIENTS_TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What operators want to know, and the number of records that no client got.
    pub fn news(&self) -> (Vec<ClientEvent>, u64) {
        let mut state = self.shared.lock();
        (std::mem::take(&mut state.events), state.lost)
    }

    /// Has what waits sent, for up to `wait` once it is the turn of the last record, and all
    /// clients disconnected, without waiting for that.
    pub fn close(&mut self, wait: Duration) {
        self.pass_on();
        self.shared.lock().last_wait = Some(wait);
        self.shared.changed.notify_all();
    }

    /// After [`Self::close`]: waits for the end of the thread, while `goes_on` allows it. What it
    /// has not passed on then counts as lost. Returns as [`Self::news`] does.
    pub fn finish(&mut self, mut goes_on: impl FnMut() -> bool) -> (Vec<ClientEvent>, u64) {
        let mut state = self.shared.lock();
        while !state.is_done && goes_on() {
            let waited = self.shared.changed.wait_timeout(state, CLIENTS_TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let left = if self.count() > 0 { state.queue.records.len() + state.taken } else { 0 };
        state.lost += left as u64;
        (std::mem::take(&mut state.events), state.lost)
    }
}

impl<T> SharedClientThread<T> {
    fn lock(&self) -> MutexGuard<'_, ClientThreadState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what waits. Waits a moment if there is nothing.
    fn take(&self, queue: &mut ClientQueue<T>) -> ClientThreadStep {
        queue.clear();
        let mut state = self.lock();
        if state.queue.records.is_empty() && state.last_wait.is_none() {
            let waited = self.changed.wait_timeout(state, CLIENTS_TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut state.queue, queue);
        state.taken = queue.records.len();
        let has_gap = std::mem::take(&mut state.has_gap);
        let last_wait = state.last_wait.filter(|_| queue.records.is_empty());
        drop(state);
        self.changed.notify_all();
        ClientThreadStep { has_gap, last_wait }
    }

    fn add(&self, events: impl Iterator<Item = ClientEvent>) {
        let mut events = events.peekable();
        if events.peek().is_some() {
            self.lock().events.extend(events);
        }
    }

    fn run<F>(&self, mut clients: Clients<F>, greeting: ClientSettings<F, T>) {
        let ClientSettings { mut first, matches, waits } = greeting;
        let (mut queue, begin) = (ClientQueue::default(), Instant::now());
        loop {
            let ClientThreadStep { has_gap, last_wait } = self.take(&mut queue);
            let mut at = 0;
            for (end, subject) in &queue.records {
                clients.push(&queue.bytes[at..*end], |filter| matches(filter, subject));
                at = *end;
                if waits {
                    clients.make_room(ROOM);
                }
            }
            if has_gap {
                clients.end_started();
            }
            if let Some(wait) = last_wait {
                self.add(clients.finish(wait));
                break;
            }
            let now_ns = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.add(clients.step(&first(), now_ns));
            self.clients.store(clients.count(), Ordering::Relaxed);
        }
    }
}

/// Marks the end of the thread, also after a panic: nobody waits for it then.
struct ClientThreadGuard<T>(Arc<SharedClientThread<T>>);

impl<T> Drop for ClientThreadGuard<T> {
    fn drop(&mut self) {
        self.0.clients.store(0, Ordering::Relaxed);
        let mut state = self.0.lock();
        (state.taken, state.is_done) = (0, true);
        drop(state);
        self.0.changed.notify_all();
    }
}

impl<T> Default for ClientQueue<T> {
    fn default() -> Self {
        Self { bytes: Vec::new(), records: Vec::new() }
    }
}

impl<T> ClientQueue<T> {
    fn has_room(&self, batch: &Self) -> bool {
        self.bytes.len() + batch.bytes.len() <= QUEUE_BYTES
            && self.records.len() + batch.records.len() <= RECORDS_MAX
    }

    fn is_half_full(&self) -> bool {
        self.bytes.len() > QUEUE_BYTES / 2 || self.records.len() > RECORDS_MAX / 2
    }

    /// Takes all records of another queue.
    fn append(&mut self, batch: &mut Self) {
        let begin = self.bytes.len();
        self.bytes.append(&mut batch.bytes);
        self.records.extend(batch.records.drain(..).map(|(end, subject)| (begin + end, subject)));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }
}

impl<F, T> std::fmt::Debug for ClientSettings<F, T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Greeting").field("waits", &self.waits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::Ipv4Addr;

    use panoptes_bounded as bounded;

    use super::super::clients::AllowedNetworks;
    use super::*;

    fn start(waits: bool) -> ClientThread<u8> {
        let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let compile = |text: &str| text.bytes().next().ok_or_else(|| "nothing".to_owned());
        let clients =
            Clients::listen(&addresses, AllowedNetworks::default(), compile).expect("a port");
        let greeting = ClientSettings {
            first: Box::new(|| b"first".to_vec()),
            matches: |filter: &u8, subject: &u8| filter == subject,
            waits,
        };
        ClientThread::start(clients, greeting, || ()).expect("a thread")
    }

    fn until(thread: &ClientThread<u8>, is_wanted: impl Fn(&ClientEvent) -> bool) {
        let begin = Instant::now();
        while !thread.news().0.iter().any(&is_wanted) {
            assert!(begin.elapsed() < bounded::BOUND, "the event does not come");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn clients_receive_what_their_filters_match() {
        let mut thread = start(false);
        let mut client = bounded::connect(thread.addresses()[0]).expect("connected");
        client.write_all(b"FILTER: b\0START: ").expect("sent");
        until(&thread, |event| matches!(event, ClientEvent::Started(..)));
        assert_eq!(thread.count(), 1);
        for record in [b"a1", b"b1", b"a2", b"b2"] {
            thread.push(record, record[0]);
        }
        thread.close(Duration::from_secs(9));
        let (_, lost) = thread.finish(|| true);
        assert_eq!((lost, thread.count()), (0, 0));
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("the connection ends");
        assert_eq!(all, b"firstOKb1b2");
    }

    #[test]
    fn the_readers_of_captures_get_all() {
        let mut thread = start(true);
        let mut client = bounded::connect(thread.addresses()[0]).expect("connected");
        client.write_all(b"START: ").expect("sent");
        until(&thread, |event| matches!(event, ClientEvent::Started(..)));
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).map(|_| all.len())
        });
        let record = [b'x'; 1000];
        for _ in 0..40_000 {
            thread.push(&record, 0);
            thread.make_room(bounded::BOUND);
        }
        thread.close(bounded::BOUND);
        let (events, lost) = thread.finish(|| true);
        assert_eq!(lost, 0, "{events:?}");
        let received = bounded::join(reader).expect("a reader").expect("read");
        assert_eq!(received, 5 + 40_000 * record.len());
    }
    /// While it is locked, filters stand still.
    static GATE: Mutex<()> = Mutex::new(());
    /// The tests with the gate come one after the other.
    static TURN: Mutex<()> = Mutex::new(());

    fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread with the gate, and its only client, which has begun.
    fn start_gated() -> (ClientThread<u8>, std::net::TcpStream) {
        let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let clients =
            Clients::listen(&addresses, AllowedNetworks::default(), |_| Ok(0)).expect("a port");
        let greeting = ClientSettings {
            first: Box::new(|| b"first".to_vec()),
            matches: |_: &u8, _: &u8| {
                drop(lock(&GATE));
                true
            },
            waits: false,
        };
        let thread = ClientThread::start(clients, greeting, || ()).expect("a thread");
        let mut client = bounded::connect(thread.addresses()[0]).expect("connected");
        client.write_all(b"FILTER: b\0START: ").expect("sent");
        until(&thread, |event| matches!(event, ClientEvent::Started(..)));
        (thread, client)
    }

    #[test]
    fn clients_learn_that_records_are_missing() {
        let _turn = lock(&TURN);
        let (mut thread, mut client) = start_gated();
        let gate = lock(&GATE);
        for number in 0..3 * RECORDS_MAX as u32 {
            thread.push(&number.to_be_bytes(), 0);
        }
        thread.pass_on();
        let (_, lost) = thread.news();
        assert!(lost >= RECORDS_MAX as u64, "{lost}");
        drop(gate);
        until(&thread, |event| matches!(event, ClientEvent::Missing(_)));
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("the connection ends");
        let records = all.strip_prefix(b"firstOK").expect("a greeting");
        let expected = (0..).flat_map(u32::to_be_bytes);
        assert!(records.iter().copied().eq(expected.take(records.len())), "it has all to its end");
        thread.push(b"after it", 0);
        thread.close(Duration::ZERO);
        assert_eq!(thread.finish(|| true).1, lost, "each is lost once");
    }

    #[test]
    fn an_end_that_is_cut_short_counts_what_is_not_passed_on() {
        let _turn = lock(&TURN);
        let (mut thread, _client) = start_gated();
        let gate = lock(&GATE);
        for _ in 0..7 {
            thread.push(b"record", 0);
        }
        thread.close(bounded::BOUND);
        let mut looks = 0;
        let (_, lost) = thread.finish(|| {
            looks += 1;
            looks < 3
        });
        assert_eq!(lost, 7);
        drop(gate);
    }
}
