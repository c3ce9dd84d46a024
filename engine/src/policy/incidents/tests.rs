//! Which processes are remembered, and what happens when there are too many.

use super::*;
use crate::state::tests::watch::limits;
use crate::state::tests::world::{FakeProcess, World};

const KEY: HashKey = HashKey::new(7);
const MS: i64 = 1_000_000;

fn at(ms: i64) -> Monotonic {
    Monotonic::from_ns(ms * MS)
}

fn id(number: u8) -> Uuid {
    let mut id = Uuid([7; 16]);
    id.0[0] = number;
    id
}

fn key(process_id: u32) -> ProcessKey {
    let FakeProcess { pid, start, .. } = FakeProcess::new(process_id);
    ProcessKey { process_id: pid, start_boottime: start }
}

fn party(process_id: u32) -> Party {
    Party { process: key(process_id), includes_children: true }
}

fn snapshot(processes: impl IntoIterator<Item = FakeProcess>) -> Snapshot {
    let mut world = World::default();
    world.processes.extend(processes);
    let mut snapshot = Snapshot::empty(&limits());
    world.show(&mut snapshot);
    snapshot
}

fn capacity() -> u32 {
    Incidents::new(&limits(), KEY).processes.capacity() as u32
}

#[test]
fn the_first_record_of_a_process_stays_and_the_last_ones_follow() {
    let mut incidents = Incidents::new(&limits(), KEY);
    let snapshot = snapshot([FakeProcess::new(700)]);
    for number in 1..=9 {
        let activity =
            [Activity::ProcessExecuted, Activity::FileDescriptorOpen][usize::from(number > 7)];
        incidents.note_record(&snapshot, key(700), (activity, false), id(number));
    }
    let earlier = incidents.earlier(&[party(700)], id(9));
    assert_eq!(earlier.as_slice(), [id(1), id(5), id(6), id(7)]);
    assert!(incidents.earlier(&[party(701)], id(9)).is_empty());
}

#[test]
fn a_process_is_forgotten_some_time_after_its_end() {
    let mut incidents = Incidents::new(&limits(), KEY);
    let shown = snapshot([FakeProcess::new(700), FakeProcess::new(701)]);
    incidents.note_time(at(0));
    incidents.add(&shown, id(1), &[party(700)], None, None);
    incidents.note_record(&shown, key(701), (Activity::ProcessCreated, false), id(2));
    incidents.note_end(key(700));
    incidents.note_end(key(701));
    incidents.note_time(at(1999));
    assert_eq!(incidents.processes.len(), 2);
    incidents.note_time(at(2000));
    assert_eq!(incidents.earlier(&[party(701)], id(2)).len(), 0);
    assert_eq!(incidents.find([key(700)], None), Some(id(1)), "its files may be reported later");
    incidents.note_time(at(30_000));
    assert_eq!(incidents.find([key(700)], None), None);
    assert!(incidents.processes.is_empty());
}

#[test]
fn a_full_table_forgets_those_that_are_gone() {
    let mut incidents = Incidents::new(&limits(), KEY);
    let gone = snapshot([]);
    for process_id in 1000..1000 + capacity() {
        incidents.note_record(&gone, key(process_id), (Activity::ProcessCreated, false), id(1));
    }
    assert_eq!(incidents.processes.len() as u32, capacity());
    let shown = snapshot([FakeProcess::new(700), FakeProcess::new(1000)]);
    incidents.add(&shown, id(2), &[party(700)], None, None);
    assert_eq!(incidents.find([key(700)], None), Some(id(2)));
    assert_eq!(incidents.processes.len(), 2, "700, and 1000, which is still there");
}

#[test]
fn a_table_full_of_the_living_takes_no_more_and_is_searched_once_a_second() {
    let mut incidents = Incidents::new(&limits(), KEY);
    let all = 1000..1000 + capacity();
    // The snapshot has room for more than the table.
    let shown = snapshot(all.clone().chain([700]).map(FakeProcess::new));
    incidents.note_time(at(0));
    for process_id in all {
        incidents.note_record(&shown, key(process_id), (Activity::ProcessCreated, false), id(1));
    }
    incidents.add(&shown, id(2), &[party(700)], None, None);
    assert_eq!(incidents.find([key(700)], None), None);
    incidents.note_end(key(1000));
    incidents.add(&shown, id(2), &[party(700)], None, None);
    assert_eq!(incidents.find([key(700)], None), None, "it was searched a moment ago");
    incidents.note_time(at(1000));
    incidents.add(&shown, id(2), &[party(700)], None, None);
    assert_eq!(incidents.find([key(700)], None), Some(id(2)));
}

#[test]
fn who_causes_many_incidents_takes_none_from_others() {
    let mut incidents = Incidents::new(&Limits::default(), KEY);
    let user = |process_id, uid| FakeProcess { uid, ..FakeProcess::new(process_id) };
    let victim = user(700, 33);
    incidents.note_time(at(0));
    incidents.add(&snapshot([victim.clone()]), id(0), &[party(700)], None, None);
    for number in 1..=200 {
        incidents.note_time(at(number.into()));
        let attacker = user(1000 + u32::from(number), 1000);
        let shown = snapshot([victim.clone(), attacker]);
        incidents.add(&shown, id(number), &[party(1000 + u32::from(number))], None, None);
    }
    assert_eq!(incidents.list.len(), INCIDENTS_MAX);
    assert_eq!(incidents.find([key(700)], None), Some(id(0)));
    assert_eq!(incidents.find([key(1001)], None), None, "the attacker's oldest");
    assert_eq!(incidents.find([key(1200)], None), Some(id(200)));
}

#[test]
fn what_the_first_processes_start_belongs_to_nothing() {
    let mut incidents = Incidents::new(&limits(), KEY);
    let child = |process_id, parent| FakeProcess { parent, ..FakeProcess::new(process_id) };
    let shown = snapshot([child(2, 0), child(700, 1), child(701, 2)]);
    incidents.add(&shown, id(1), &[party(1), party(2)], None, None);
    assert_eq!(incidents.find([key(700), key(701), key(1)], None), None);
    incidents.note_beginning(&shown, key(700));
    assert_eq!(incidents.find([key(700)], None), None);
}
