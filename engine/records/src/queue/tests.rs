//! What goes through a queue, and how outputs find it in blocks.

use proptest::prelude::*;

use super::block::TURNS_MAX;
use super::*;
use crate::filter::{Filter, FilterSubject};
use crate::preset::Preset;

const SMALL: QueueSize = QueueSize { blocks: 4, block_bytes: 64 };

#[test]
fn records_come_out_whole_and_in_order() {
    let (mut producer, mut consumer) = queue(SMALL, &Waker::default());
    for number in 0..20_u32 {
        producer.try_push(RecordClass::default(), number.to_string().as_bytes()).unwrap();
    }
    producer.flush();
    let mut seen = Vec::new();
    while let Some(block) = consumer.pop() {
        assert!(block.slice(0, block.records()).ends_with(b"\n"));
        seen.extend(block.iter().map(|record| String::from_utf8(record.to_vec()).unwrap()));
        consumer.give_back(block);
    }
    assert_eq!(seen, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn nothing_is_handed_over_before_a_flush_or_a_full_block() {
    let (mut producer, mut consumer) = queue(SMALL, &Waker::default());
    producer.try_push(RecordClass::default(), b"record").unwrap();
    assert!(consumer.pop().is_none());
    producer.flush();
    assert_eq!(consumer.pop().unwrap().records(), 1);
    producer.flush();
    assert!(consumer.pop().is_none());
}

#[test]
fn a_full_queue_refuses_counts_and_recovers() {
    let (mut producer, mut consumer) = queue(SMALL, &Waker::default());
    let mut taken = 0;
    while producer.try_push(RecordClass::default(), &[b'x'; 30]).is_ok() {
        taken += 1;
    }
    assert_eq!((taken, producer.refused()), (8, 1));
    assert_eq!(producer.try_push(RecordClass::default(), b"y"), Err(Full));
    let block = consumer.pop().unwrap();
    consumer.give_back(block);
    assert_eq!(producer.try_push(RecordClass::default(), b"y"), Ok(()));
    assert_eq!(producer.refused(), 2);
}

#[test]
fn a_record_longer_than_a_block_is_refused_and_others_still_pass() {
    let (mut producer, mut consumer) = queue(SMALL, &Waker::default());
    producer.try_push(RecordClass::default(), b"before").unwrap();
    assert_eq!(producer.try_push(RecordClass::default(), &[b'x'; 64]), Err(Full));
    assert_eq!(producer.try_push(RecordClass::default(), &[b'x'; 64]), Err(Full));
    producer.try_push(RecordClass::default(), &[b'x'; 63]).unwrap();
    drop(producer);
    assert_eq!(consumer.pop().unwrap().slice(0, 1), b"before\n");
    assert_eq!(consumer.pop().unwrap().slice(0, 1).len(), 64);
    assert!(consumer.is_finished());
}

/// The records of each system, found as an output finds them.
fn records_of(block: &RecordBlock, system: u32) -> Vec<usize> {
    let (wanted, mut at, mut found) =
        (&Filter { system: Some(system), ..Filter::ALL }, 0, Vec::new());
    while at < block.records() {
        assert_eq!(block.wanted_from(wanted, at), block.wanted_from(wanted, 0) - found.len());
        let run = block.next_wanted(wanted, at);
        found.extend(run.clone());
        at = run.end;
    }
    found
}

#[test]
fn the_records_of_a_system_are_found_in_a_block() {
    let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
    let systems = [None, Some(3), Some(3), Some(1), None, Some(3), Some(1), Some(1)];
    for system in systems {
        producer.set_subject(FilterSubject { system, ..FilterSubject::SERVICE });
        producer.try_push(RecordClass::default(), b"a record").unwrap();
    }
    producer.flush();
    let block = consumer.pop().unwrap();
    assert_eq!(records_of(&block, 3), [1, 2, 5]);
    assert_eq!(records_of(&block, 1), [3, 6, 7]);
    assert_eq!(records_of(&block, 2), [0; 0]);
}

#[test]
fn systems_that_take_turns_often_use_more_blocks() {
    let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
    for turn in 0..3 * TURNS_MAX {
        let system = Some(turn as u32 % 2);
        producer.set_subject(FilterSubject { system, ..FilterSubject::SERVICE });
        producer.try_push(RecordClass::default(), b"a record").unwrap();
    }
    producer.flush();
    let mut counts = [0; 2];
    while let Some(block) = consumer.pop() {
        for (system, count) in counts.iter_mut().enumerate() {
            *count += records_of(&block, system as u32).len();
        }
        consumer.give_back(block);
    }
    assert_eq!(counts, [3 * TURNS_MAX / 2; 2]);
}

fn urgent() -> RecordClass {
    RecordClass { is_urgent: true, is_alert: true, ..RecordClass::default() }
}

const LARGE: QueueSize = QueueSize { blocks: 16, block_bytes: 64 };

/// Pushes records of 30 bytes, two to a block, until one is refused; returns their number.
fn fill(producer: &mut Producer, class: RecordClass) -> usize {
    (0..1000).take_while(|_| producer.try_push(class, &[b'x'; 30]).is_ok()).count()
}

#[test]
fn a_flood_leaves_room_for_urgent_records() {
    let (mut producer, mut consumer) = queue(LARGE, &Waker::default());
    assert_eq!(fill(&mut producer, RecordClass::default()), 28);
    assert_eq!(fill(&mut producer, urgent()), 4);
    // What the writer gives back goes to urgent records first, then to others.
    for accepted in [0, 0, 2, 2] {
        let block = consumer.pop().unwrap();
        consumer.give_back(block);
        assert_eq!(fill(&mut producer, RecordClass::default()), accepted);
    }
}

#[test]
fn a_reserved_block_takes_events_when_there_is_room_again() {
    let (mut producer, mut consumer) = queue(LARGE, &Waker::default());
    fill(&mut producer, RecordClass::default());
    producer.flush();
    assert_eq!(producer.try_push(RecordClass::default(), b"event"), Err(Full));
    producer.try_push(urgent(), b"alert").unwrap();
    assert_eq!(producer.try_push(RecordClass::default(), b"event"), Err(Full));
    for _ in 0..4 {
        let block = consumer.pop().unwrap();
        consumer.give_back(block);
    }
    assert_eq!(producer.try_push(RecordClass::default(), b"event"), Ok(()));
}

#[test]
fn each_system_has_its_share_of_what_is_free() {
    let (mut producer, mut consumer) = queue(LARGE, &Waker::default());
    let mut accepted = Vec::new();
    // The first of four systems floods; the writer takes nothing for five rounds.
    for _ in 0..5 {
        producer.share(4);
        let flood = fill(&mut producer, RecordClass::default());
        for turns in (1..=3).rev() {
            producer.share(turns);
            assert_eq!(producer.try_push(urgent(), b"alert"), Ok(()));
        }
        accepted.push(flood);
    }
    assert!(accepted[0] <= 8, "{accepted:?}");
    assert!(accepted.is_sorted_by(|before, after| before >= after), "{accepted:?}");
    while let Some(block) = consumer.pop() {
        consumer.give_back(block);
    }
    producer.end_shares();
    assert!(fill(&mut producer, RecordClass::default()) > 20);
}

const ALERTS: Filter = Filter { alerts_only: true, ..Filter::ALL };

#[test]
fn alerts_are_found_in_a_block() {
    let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
    for class in [RecordClass::default(), urgent(), urgent(), RecordClass::default(), urgent()] {
        producer.try_push(class, b"x").unwrap();
    }
    producer.flush();
    let block = consumer.pop().unwrap();
    assert_eq!([0, 2, 3, 5].map(|from| block.next_wanted(&ALERTS, from)), [1..3, 2..3, 4..5, 5..5]);
    assert_eq!([0, 2, 5].map(|from| block.wanted_from(&ALERTS, from)), [3, 2, 0]);
}

#[test]
fn a_preset_has_the_records_of_smaller_ones() {
    let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
    for preset in [Preset::Security, Preset::Everything, Preset::Alerts, Preset::Security] {
        producer.try_push(RecordClass { preset, ..RecordClass::default() }, b"x").unwrap();
    }
    producer.flush();
    let block = consumer.pop().unwrap();
    let runs = |preset| {
        let wanted = &Filter::of_preset(preset);
        let first = block.next_wanted(wanted, 0);
        (first.clone(), block.next_wanted(wanted, first.end), block.wanted_from(wanted, 0))
    };
    assert_eq!(runs(Preset::Alerts), (2..3, 4..4, 1));
    assert_eq!(runs(Preset::Security), (0..1, 2..4, 3));
    assert_eq!(runs(Preset::Everything), (0..4, 4..4, 4));
}

proptest! {
    #[test]
    fn what_fits_is_never_cut(
        lengths in proptest::collection::vec(0_usize..20, 1..20),
        room in 0_usize..200,
    ) {
        let size = QueueSize { blocks: 4, block_bytes: 512 };
        let (mut producer, mut consumer) = queue(size, &Waker::default());
        for &length in &lengths {
            producer.try_push(RecordClass::default(), &vec![b'x'; length]).unwrap();
        }
        producer.flush();
        let block = consumer.pop().unwrap();
        for index in 0..block.records() {
            let count = block.fitting(index..block.records(), room);
            prop_assert!(block.slice(index, count).len() <= room);
            if index + count < block.records() {
                prop_assert!(block.slice(index, count + 1).len() > room);
            }
        }
    }
}
