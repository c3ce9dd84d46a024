//! Outputs that panic, are removed, or make room for others.

use std::ops::Range;
use std::sync::Mutex;

use panoptes_records::queue::{Producer, QueueSize, RecordClass, queue};

use super::*;
use crate::output::OutputKind;

/// Keeps records, and panics where a test wants it.
#[derive(Debug, Default)]
struct Fragile {
    counters: Arc<OutputCounters>,
    kept: Arc<Mutex<Vec<String>>>,
    /// The record that it cannot take.
    bad: Option<&'static str>,
    is_bad_when_it_advances: bool,
    is_bad_at_its_end: bool,
    /// Its receiver is away for as long as this is true.
    is_away: Arc<AtomicBool>,
    /// Its disk is full: it takes nothing.
    is_full: bool,
    filter: Filter,
    progress: Arc<std::sync::atomic::AtomicU64>,
}

impl Output for Fragile {
    fn kind(&self) -> OutputKind {
        OutputKind::Plain
    }

    fn counters(&self) -> &Arc<OutputCounters> {
        &self.counters
    }

    fn filter(&self) -> Filter {
        self.filter
    }

    fn append(&mut self, block: &RecordBlock, range: Range<usize>, _: u64) -> usize {
        if self.is_full {
            return 0;
        }
        for index in range.clone() {
            let record = String::from_utf8_lossy(block.slice(index, 1)).trim_end().to_owned();
            assert_ne!(Some(record.as_str()), self.bad, "a bad record");
            self.kept.lock().unwrap().push(record);
        }
        range.len()
    }

    fn advance(&mut self, _: u64, _: Duration) -> OutputStatus {
        assert!(!self.is_bad_when_it_advances, "a bad step");
        match self.is_away.load(Ordering::Relaxed) {
            _ if self.is_full => OutputStatus::Failing,
            true => OutputStatus::Away,
            false => OutputStatus::Idle,
        }
    }

    fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
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
            self.producer.try_push(RecordClass::default(), record.as_bytes()).unwrap();
            self.producer.flush();
        }
        self.writer.step(0, Duration::ZERO);
    }

    fn change(&self, change: OutputChange) {
        self.changes.send(change).unwrap();
    }

    fn remove(&self, counters: &Arc<OutputCounters>) {
        let until = self.writer.waker().next();
        self.change(OutputChange::Remove(Arc::clone(counters), until));
    }

    /// For an output that takes everything.
    fn release(&self, counters: &Arc<OutputCounters>) {
        let until = self.writer.waker().next();
        self.change(OutputChange::Release(Arc::clone(counters), until, Filter::ALL));
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

#[test]
fn an_output_that_makes_room_has_all_records_before_and_the_next_one_all_after() {
    let (steady, old, next) = (Fragile::default(), Fragile::default(), Fragile::default());
    let all = Arc::clone(&steady.kept);
    let (before, after) = (Arc::clone(&old.kept), Arc::clone(&next.kept));
    let counters = Arc::clone(&old.counters);
    let mut running = start(vec![old, steady]);
    running.write(&["a"]);
    assert!(!counters.is_released());
    running.release(&counters);
    running.write(&["b"]);
    assert!(counters.is_released());
    running.write(&["c", "d"]);
    running.change(OutputChange::Replace(Arc::clone(&counters), Box::new(next)));
    running.write(&["e"]);
    let both = [before.lock().unwrap().clone(), after.lock().unwrap().clone()];
    assert_eq!(both.concat(), ["a", "b", "c", "d", "e"]);
    assert_eq!(both[1].last().map(String::as_str), Some("e"));
    assert_eq!(*all.lock().unwrap(), ["a", "b", "c", "d", "e"]);
    assert_eq!(counters.dropped(), 0);
}

#[test]
fn an_output_is_removed_when_its_receiver_stays_away_for_too_long() {
    let (steady, away) = (Fragile::default(), Fragile::default());
    let all = Arc::clone(&steady.kept);
    let (counters, is_away) = (Arc::clone(&away.counters), Arc::clone(&away.is_away));
    is_away.store(true, Ordering::Relaxed);
    let mut running = start(vec![away, steady]);
    running.write(&["a"]);
    running.remove(&counters);
    running.write(&["b"]);
    assert!(Arc::strong_count(&counters) > 1);
    running.writer.step(PATIENCE_NS, Duration::ZERO);
    assert_eq!(Arc::strong_count(&counters), 1, "the writer has dropped it");
    running.write(&["c"]);
    assert_eq!(*all.lock().unwrap(), ["a", "b", "c"]);
    assert!(!counters.is_released());
}

#[test]
fn an_output_whose_disk_is_full_ends_and_what_it_could_not_take_is_counted() {
    let full = Fragile { is_full: true, ..Fragile::default() };
    let counters = Arc::clone(&full.counters);
    let mut running = start(vec![full, Fragile::default()]);
    running.write(&["a", "b"]);
    running.remove(&counters);
    running.write(&["c"]);
    assert!(Arc::strong_count(&counters) > 1);
    running.writer.step(PATIENCE_NS, Duration::ZERO);
    assert_eq!((Arc::strong_count(&counters), counters.dropped()), (1, 2));
}

#[test]
fn what_an_output_could_not_take_is_for_the_next_one() {
    let (full, next) = (Fragile { is_full: true, ..Fragile::default() }, Fragile::default());
    let (counters, after) = (Arc::clone(&full.counters), Arc::clone(&next.kept));
    let mut running = start(vec![full]);
    running.write(&["a"]);
    running.release(&counters);
    running.write(&["b"]);
    assert!(!counters.is_released());
    running.writer.step(PATIENCE_NS, Duration::ZERO);
    assert!(counters.is_released());
    running.change(OutputChange::Replace(Arc::clone(&counters), Box::new(next)));
    running.write(&["c"]);
    assert_eq!(*after.lock().unwrap(), ["a", "b", "c"]);
    assert_eq!(counters.dropped(), 0);
}

/// Between the two outputs, the new filter decides which records wait.
#[test]
fn records_that_only_the_next_output_takes_wait_for_it() {
    let few = Filter { alerts_only: true, ..Filter::ALL };
    let old = Fragile { filter: few, ..Fragile::default() };
    let (next, counters) = (Fragile::default(), Arc::clone(&old.counters));
    let (before, after) = (Arc::clone(&old.kept), Arc::clone(&next.kept));
    let mut running = start(vec![old]);
    running.write(&["a"]);
    running.release(&counters);
    running.write(&["b"]);
    assert!(counters.is_released());
    running.change(OutputChange::Replace(Arc::clone(&counters), Box::new(next)));
    running.write(&["c"]);
    assert!(before.lock().unwrap().is_empty());
    assert_eq!(*after.lock().unwrap(), ["b", "c"]);
}

/// What an output that is changed cannot take any more is counted by the filter that applies then.
#[test]
fn records_that_only_the_next_output_takes_are_counted_when_they_are_lost() {
    let few = Filter { alerts_only: true, ..Filter::ALL };
    let away = Fragile { filter: few, ..Fragile::default() };
    away.is_away.store(true, Ordering::Relaxed);
    let counters = Arc::clone(&away.counters);
    let mut running = start(vec![away]);
    running.write(&["a"]);
    running.release(&counters);
    running.write(&["b", "c"]);
    drop(running.producer);
    let begin = std::time::Instant::now();
    running.writer.finish(&|| begin.elapsed().as_nanos() as u64);
    assert_eq!(counters.dropped(), 2);
}

#[test]
fn a_new_output_takes_nothing_from_before_it_was_there() {
    let (full, new) = (Fragile { is_full: true, ..Fragile::default() }, Fragile::default());
    let (kept, counters) = (Arc::clone(&new.kept), Arc::clone(&new.counters));
    let mut running = start(vec![full]);
    running.write(&["a", "b"]);
    running.change(OutputChange::Add(Box::new(new), running.writer.waker().next()));
    running.write(&["c"]);
    assert_eq!(*kept.lock().unwrap(), ["c"]);
    assert_eq!(counters.dropped(), 0);
}

/// A second change finds the first one not carried out yet.
#[test]
fn an_output_that_is_absent_is_released_for_another_filter() {
    let old = Fragile { filter: Filter { alerts_only: true, ..Filter::ALL }, ..Fragile::default() };
    let (next, counters) = (Fragile::default(), Arc::clone(&old.counters));
    let after = Arc::clone(&next.kept);
    let mut running = start(vec![old]);
    let until = running.writer.waker().next();
    let few = Filter { alerts_only: true, ..Filter::ALL };
    running.change(OutputChange::Release(Arc::clone(&counters), until, few));
    running.write(&["a"]);
    assert!(counters.is_released());
    running.release(&counters);
    running.change(OutputChange::Replace(Arc::clone(&counters), Box::new(next)));
    running.write(&["b"]);
    running.write(&["c"]);
    assert_eq!(*after.lock().unwrap(), ["a", "b", "c"]);
}

/// A system is gone while its log is being changed: what came before is for the next output.
#[test]
fn an_end_during_a_change_loses_nothing() {
    let (old, next) = (Fragile::default(), Fragile::default());
    let of_system = Filter { system: Some(7), ..Filter::ALL };
    let (counters, ended) = (Arc::clone(&old.counters), Arc::clone(&next.counters));
    let (before, after) = (Arc::clone(&old.kept), Arc::clone(&next.kept));
    let subject = panoptes_records::filter::FilterSubject { system: Some(7), receivers: 0 };
    let mut running = start(vec![Fragile { filter: of_system, ..old }, Fragile::default()]);
    running.producer.set_subject(subject);
    running.write(&["a"]);
    let until = running.writer.waker().next();
    running.change(OutputChange::Release(Arc::clone(&counters), until, of_system));
    running.producer.try_push(RecordClass::default(), b"b").unwrap();
    running.producer.flush();
    running.change(OutputChange::End(7));
    running.write(&[]);
    assert!(counters.is_released());
    let next = Fragile { filter: of_system, ..next };
    running.change(OutputChange::Replace(Arc::clone(&counters), Box::new(next)));
    running.write(&[]);
    running.write(&["c"]);
    assert_eq!([before.lock().unwrap().concat(), after.lock().unwrap().concat()], ["a", "b"]);
    assert_eq!((Arc::strong_count(&ended), counters.dropped()), (1, 0));
}

/// A receiver may make progress for hours.
#[test]
fn an_output_that_is_removed_has_half_a_minute() {
    let slow = Fragile::default();
    slow.is_away.store(true, Ordering::Relaxed);
    let (counters, progress) = (Arc::clone(&slow.counters), Arc::clone(&slow.progress));
    let mut running = start(vec![slow, Fragile::default()]);
    running.write(&["a"]);
    running.remove(&counters);
    for step in 0..100 {
        progress.fetch_add(1, Ordering::Relaxed);
        running.writer.step(step * END_NS / 100, Duration::ZERO);
        assert!(Arc::strong_count(&counters) > 1, "{step}");
    }
    progress.fetch_add(1, Ordering::Relaxed);
    running.writer.step(END_NS, Duration::ZERO);
    assert_eq!(Arc::strong_count(&counters), 1);
}

#[test]
fn a_queue_may_be_added_and_goes_with_its_producer() {
    let (kept, late) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<String>>>::default());
    let mut running = start(vec![Fragile { kept: Arc::clone(&kept), ..Fragile::default() }]);
    running.write(&["1"]);
    for round in 0..3 {
        let (mut producer, consumer) = queue(QueueSize::default(), running.writer.waker());
        running.change(OutputChange::AddQueue(consumer));
        let name = format!("added {round}");
        producer.try_push(RecordClass::default(), name.as_bytes()).unwrap();
        producer.flush();
        running.write(&["own"]);
        assert_eq!(running.writer.lanes.len(), 2);
        // An output that comes later takes its records, too.
        let late = Fragile { kept: Arc::clone(&late), ..Fragile::default() };
        running.change(OutputChange::Add(Box::new(late), running.writer.waker().next()));
        drop(producer);
        running.write(&["2"]);
        assert_eq!(running.writer.lanes.len(), 1, "its producer is gone");
        assert!(running.writer.outputs.iter().all(|output| output.places.len() == 1));
    }
    let expected = ["1", "added 0", "own", "2", "added 1", "own", "2", "added 2", "own", "2"];
    assert_eq!(*kept.lock().unwrap(), expected);
    assert!(!running.writer.is_finished());
    let Running { producer, mut writer, .. } = running;
    drop(producer);
    writer.step(0, Duration::ZERO);
    assert!(writer.is_finished());
}
