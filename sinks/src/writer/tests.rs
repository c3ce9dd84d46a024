//! Outputs that panic.

use std::sync::Mutex;

use super::*;
use crate::queue::{Class, Producer, QueueSize, queue};

/// Keeps records, and panics where a test wants it.
#[derive(Debug, Default)]
struct Fragile {
    counters: Arc<Counters>,
    kept: Arc<Mutex<Vec<String>>>,
    /// The record that it cannot take.
    bad: Option<&'static str>,
    is_bad_when_it_advances: bool,
    is_bad_at_its_end: bool,
}

impl Output for Fragile {
    fn kind(&self) -> OutputKind {
        OutputKind::Plain
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn append(&mut self, block: &Block, range: Range<usize>, _: u64) -> usize {
        for index in range.clone() {
            let record = String::from_utf8_lossy(block.slice(index, 1)).trim_end().to_owned();
            assert_ne!(Some(record.as_str()), self.bad, "a bad record");
            self.kept.lock().unwrap().push(record);
        }
        range.len()
    }

    fn advance(&mut self, _: u64, _: Duration) -> Standing {
        assert!(!self.is_bad_when_it_advances, "a bad step");
        Standing::Idle
    }

    fn finish(&mut self) {
        assert!(!self.is_bad_at_its_end, "a bad end");
    }
}

struct Running {
    producer: Producer,
    changes: std::sync::mpsc::Sender<OutputChange>,
    writer: Writer,
}

fn start(outputs: Vec<Fragile>) -> Running {
    let (producer, consumer) = queue(QueueSize::default(), &Waker::default());
    let (changes, changed) = channel();
    let outputs = outputs.into_iter().map(|output| Box::new(output) as Box<dyn Output>).collect();
    Running { producer, changes, writer: Writer::with_changes(vec![consumer], outputs, changed) }
}

impl Running {
    /// Writes records, each in a block of its own.
    fn write(&mut self, records: &[&str]) {
        for record in records {
            self.producer.try_push(Class::default(), record.as_bytes()).unwrap();
            self.producer.flush();
        }
        self.writer.step(0, Duration::ZERO);
    }
}

#[test]
fn an_output_that_panics_costs_no_other_one_a_record_and_is_replaced() {
    let (steady, fragile) = (Fragile::default(), Fragile { bad: Some("c"), ..Fragile::default() });
    let (all, before) = (Arc::clone(&steady.kept), Arc::clone(&fragile.kept));
    let counters = Arc::clone(&fragile.counters);
    let mut running = start(vec![fragile, steady]);
    running.write(&["a", "b", "c", "d"]);
    assert_eq!(*all.lock().unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(*before.lock().unwrap(), ["a", "b"]);
    let panic = counters.take_panic().unwrap();
    assert!(panic.contains("a bad record") && panic.contains("writer/tests.rs:"), "{panic}");
    assert_eq!(counters.take_panic(), None);
    // What it took it had not written, and nobody gets what it could not take.
    assert_eq!(counters.dropped(), 3);
    // Records wait for the next one.
    running.write(&["e"]);
    let next = Fragile::default();
    let after = Arc::clone(&next.kept);
    running.changes.send(OutputChange::Replace(Arc::clone(&counters), Box::new(next))).unwrap();
    running.write(&["f"]);
    assert_eq!(*after.lock().unwrap(), ["d", "e", "f"]);
    assert_eq!(*all.lock().unwrap(), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(counters.dropped(), 3);
}

#[test]
fn an_output_that_panics_while_it_writes_loses_what_it_had_taken() {
    let fragile = Fragile { is_bad_when_it_advances: true, ..Fragile::default() };
    let counters = Arc::clone(&fragile.counters);
    let mut running = start(vec![fragile]);
    running.write(&["a", "b"]);
    assert_eq!(counters.dropped(), 2);
    assert!(counters.take_panic().unwrap().contains("a bad step"));
    running.write(&["c"]);
    assert_eq!((counters.dropped(), counters.take_panic()), (2, None));
    // Without another one, they are lost at the end.
    drop(running.producer);
    let begin = std::time::Instant::now();
    running.writer.finish(&|| begin.elapsed().as_nanos() as u64);
    assert_eq!(counters.dropped(), 3);
}

#[test]
fn an_output_that_panics_at_its_end_ends() {
    let fragile = Fragile { is_bad_at_its_end: true, ..Fragile::default() };
    let counters = Arc::clone(&fragile.counters);
    let mut running = start(vec![fragile]);
    running.write(&["a"]);
    drop(running.producer);
    running.writer.finish(&|| 0);
    assert!(counters.take_panic().unwrap().contains("a bad end"));
}
