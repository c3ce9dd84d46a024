//! Floods: events of one process are summed up, and no flood costs an alert.

use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::Full;
use panoptes_sinks::queue::Class;
use serde_json::{Value, json};

use super::{Reader, details, names};
use crate::limits::Limits;
use crate::state::process::ProcessKey;
use crate::state::tests::watch::limits;
use crate::state::tests::world::{FakeArea, FakeFile, FakeProcess, R, W, World, X};

const SECOND_NS: i64 = 1_000_000_000;
const LIBRARY: Activity = Activity::ForeignLibraryLoaded;

impl Reader {
    /// Fills the queue, also what is reserved in it.
    fn fill(&mut self) {
        let urgent = Class { is_urgent: true, is_alert: true };
        let filler = |room: &mut [u8]| if room.len() > 1000 { Ok(1000) } else { Err(Full) };
        while self.producer.offer_with(urgent, filler).is_ok() {}
    }

    /// Counts so many alerts of a process.
    fn count_alerts(&mut self, process_id: u32, count: u32) {
        let process = ProcessKey { process_id, start_boottime: 1 };
        (0..count).for_each(|_| self.policy.alert_floods.count(process, LIBRARY));
    }

    /// Writes the last records; returns how many records were lost by then.
    fn finish(&mut self) -> u64 {
        let mut reporter = self.policy.reporter(&mut self.producer);
        reporter.finish(&self.state.scan_context(&self.snapshot, self.now), &self.state);
        self.producer.flush();
        self.producer.refused()
    }
}

/// Two processes; the first has this many pipes open.
fn with_pipes(count: u32) -> World {
    let pipe = |index: u32| FakeFile::pipe(0xffff_8885_0000_1000 + u64::from(index) * 0x100, 9);
    let flooding = (0..count)
        .fold(FakeProcess::new(714), |process, index| process.with_file(index, pipe(index)));
    World::default().with(flooding).with(FakeProcess::new(715))
}

fn reader() -> Reader {
    let limits = Limits { events_per_second: 5, ..limits() };
    let mut reader = Reader::new(&limits);
    reader.scan(&with_pipes(0));
    reader
}

#[test]
fn the_events_of_a_flood_are_summed_up_once_a_second() {
    let mut reader = reader();
    assert_eq!(names(&reader.scan(&with_pipes(12))), ["file_descriptor_open"; 5]);
    assert_eq!(reader.scan(&with_pipes(20)).len(), 0);
    // Events of another kind, and of another process, have their own count.
    let mut world = with_pipes(20);
    *world.process(715) = FakeProcess::new(715).with_file(0, FakeFile::pipe(1 << 40, 8));
    *world.process(714) = world.process(714).clone().with_thread(900);
    assert_eq!(names(&reader.scan(&world)), ["thread_created", "file_descriptor_open"]);
    reader.now = reader.now.after(SECOND_NS);
    let records = reader.scan(&world);
    assert_eq!(names(&records), ["events_summed_up"]);
    let more = json!({
        "reason": "15 more events file_descriptor_open of this process were not written",
        "activity": "file_descriptor_open",
        "count": 15,
    });
    assert_eq!(*details(&records[0], "system_activity_details"), more);
    assert_eq!(details(&records[0], "process_details")["process_id"], 714);
    // The next second counts anew.
    reader.now = reader.now.after(SECOND_NS);
    assert_eq!(reader.scan(&world).len(), 0);
    let records = reader.scan(&with_pipes(17));
    assert_eq!(
        names(&records),
        [&["thread_terminated"][..], &["file_descriptor_close"; 4]].concat()
    );
}

#[test]
fn a_flooding_process_that_ends_is_summed_up_before_its_end() {
    let mut reader = reader();
    reader.scan(&with_pipes(12));
    let only = World::default().with(FakeProcess::new(715));
    let records = [reader.scan(&only), reader.scan(&only)].concat();
    assert_eq!(names(&records), ["events_summed_up", "process_terminated"]);
    assert_eq!(details(&records[0], "system_activity_details")["count"], 7);
}

/// The counts of a process that makes room for others were lost.
#[test]
fn the_events_of_a_process_that_is_not_tracked_any_more_are_summed_up() {
    let of_user = |pid: u32| FakeProcess { uid: 1000, ..FakeProcess::new(pid) };
    let mut reader = Reader::new(&Limits { events_per_second: 5, processes: 32, ..limits() });
    let mut world = World::default();
    world.processes.extend((100..130).map(of_user));
    reader.scan(&world);
    let pipe = |index: u32| FakeFile::pipe(0xffff_8885_0000_1000 + u64::from(index) * 0x100, 9);
    let flooding = world.process(129);
    *flooding = (0..12).fold(flooding.clone(), |it, index| it.with_file(index, pipe(index)));
    assert_eq!(names(&reader.scan(&world)), ["file_descriptor_open"; 5]);
    // The newest processes of a user that has more than its share make room for root's.
    world.processes.extend((200..206).map(FakeProcess::new));
    reader.scan(&world);
    reader.now = reader.now.after(SECOND_NS);
    let records = reader.scan(&world);
    let is_sum = |record: &&Value| record["activity_data"]["name"] == "events_summed_up";
    let sums: Vec<_> = records.iter().filter(is_sum).collect();
    let [sum] = sums[..] else { panic!("{:?}", names(&records)) };
    let reason = "7 more events file_descriptor_open of processes that are not tracked any more \
                  were not written";
    let more = json!({"reason": reason, "activity": "file_descriptor_open", "count": 7});
    assert_eq!(*details(sum, "system_activity_details"), more);
}

#[test]
fn what_is_only_counted_at_the_stop_is_summed_up() {
    let mut reader = reader();
    reader.scan(&with_pipes(12));
    reader.count_alerts(714, 70);
    reader.count_alerts(715, 74);
    assert_eq!(reader.finish(), 0);
    let records = reader.records();
    let counts: Vec<_> =
        records.iter().map(|it| details(it, "system_activity_details")["count"].as_u64()).collect();
    assert_eq!(names(&records), ["events_summed_up"; 3]);
    assert_eq!(counts, [Some(7), Some(6), Some(10)]);
    assert_eq!(reader.finish(), 0);
    assert_eq!(reader.records().len(), 0, "once");
}

#[test]
fn sums_that_find_no_room_at_the_stop_are_lost_records() {
    let mut reader = reader();
    reader.scan(&with_pipes(12));
    reader.count_alerts(714, 70);
    reader.count_alerts(715, 74);
    reader.fill();
    // Each sum, and what it was to sum up.
    assert_eq!(reader.finish(), 3 + 7 + 6 + 10);
}

#[test]
fn alerts_that_find_no_room_at_the_stop_are_lost_records() {
    let with = |flags| {
        let area = FakeArea::anonymous(0x7f1c_3000_0000, 0x7f1c_3000_1000, flags).written(1 << 40);
        World::default().with(FakeProcess { areas: vec![area], ..FakeProcess::new(714) })
    };
    let mut reader = Reader::new(&limits());
    reader.scan(&with(R | W));
    reader.fill();
    reader.show(&with(R | X));
    assert_eq!(reader.finish(), 1);
}

/// Adversary A1: an alert that finds the queue full was lost for good.
#[test]
fn an_alert_that_finds_no_room_comes_later() {
    let with = |flags| {
        let area = FakeArea::anonymous(0x7f1c_3000_0000, 0x7f1c_3000_1000, flags).written(1 << 40);
        World::default().with(FakeProcess { areas: vec![area], ..FakeProcess::new(714) })
    };
    let mut reader = Reader::new(&limits());
    reader.scan(&with(R | W));
    // Another system has filled the queue, and what is reserved in it too.
    reader.fill();
    reader.show(&with(R | X));
    while let Some(block) = reader.consumer.pop() {
        reader.consumer.give_back(block);
    }
    let records = reader.scan(&with(R | X));
    assert_eq!(names(&records), ["executable_permissions_added"]);
    assert_eq!(reader.scan(&with(R | X)).len(), 0);
}
