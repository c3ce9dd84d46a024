//! Floods: events of one process are summed up, and no flood costs an alert.

use panoptes_records::json::Full;
use panoptes_records::queue::RecordClass;
use serde_json::{Value, json};

use super::{Reader, details, names};
use crate::detect::Detector as _;
use crate::limits::Limits;
use crate::state::tests::watch::limits;
use crate::state::tests::world::{FakeArea, FakeFile, FakeProcess, R, W, World, X};

const SECOND_NS: i64 = 1_000_000_000;

impl Reader {
    /// Fills the queue, also what is reserved in it.
    pub(super) fn fill(&mut self) {
        let urgent = RecordClass { is_urgent: true, is_alert: true, ..RecordClass::default() };
        let filler = |room: &mut [u8]| if room.len() > 1000 { Ok(1000) } else { Err(Full) };
        while self.producer.offer_with(urgent, filler).is_ok() {}
    }

    /// Writes the last records; returns how many records were lost by then.
    pub(super) fn finish(&mut self) -> u64 {
        self.policy.end_alert_floods();
        let cx = self.state.scan_context(&self.snapshot, self.now);
        let mut reporter = self.policy.reporter(&mut self.producer);
        self.permissions.finish(&cx, &mut reporter, &self.state, &mut *self.files);
        let left = self.attest.finish(&cx, &mut reporter, &self.state, &mut *self.files);
        reporter.finish(&cx, &self.state, left);
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

/// A process that forks in a loop wrote as many records as it liked.
#[test]
fn children_of_one_process_are_summed_up_and_those_with_an_alert_are_written() {
    let mut reader = reader();
    let child = |pid: u32| FakeProcess { parent: 714, ..FakeProcess::new(pid) };
    let mut world = with_pipes(0);
    world.processes.extend((1000..1012).map(child));
    // Children of others, and those that process 1 has adopted, are no part of the flood.
    world.processes.push(FakeProcess { parent: 715, ..FakeProcess::new(1100) });
    world.processes.extend((1200..1210).map(FakeProcess::new));
    let area = FakeArea::anonymous(0x7f1c_3000_0000, 0x7f1c_3000_1000, R | W).written(1 << 40);
    world.process(1011).areas.push(area);
    let records = [reader.scan(&world), reader.scan(&world)].concat();
    let created = records.iter().filter(|it| it["activity_data"]["name"] == "process_created");
    let mut pids: Vec<_> =
        created.map(|it| details(it, "process_details")["process_id"].as_u64().unwrap()).collect();
    pids.sort_unstable();
    let expected = [1000..1005, 1100..1101, 1200..1210].into_iter().flatten();
    assert_eq!(pids, expected.collect::<Vec<_>>());
    reader.now = reader.now.after(SECOND_NS);
    let records = reader.scan(&world);
    assert_eq!(names(&records), ["events_summed_up"]);
    let more = json!({
        "reason": "7 more events process_created of this process's children were not written",
        "activity": "process_created",
        "count": 7,
    });
    assert_eq!(*details(&records[0], "system_activity_details"), more);
    assert_eq!(details(&records[0], "process_details")["process_id"], 714);
    world.process(1011).areas[0].flags = R | X;
    let records = reader.scan(&world);
    assert_eq!(names(&records), ["process_created", "executable_permissions_added"]);
    for record in &records {
        assert_eq!(details(record, "process_details")["process_id"], 1011);
    }
    // Their ends are summed up, too.
    world.processes.retain(|process| process.parent != 714);
    let records = [reader.scan(&world), reader.scan(&world)].concat();
    assert_eq!(names(&records), ["process_terminated"; 5]);
}

#[test]
fn what_is_only_counted_at_the_stop_is_summed_up() {
    let mut reader = reader();
    reader.scan(&with_pipes(12));
    assert_eq!(reader.finish(), 0);
    let records = reader.records();
    assert_eq!(names(&records), ["events_summed_up"]);
    assert_eq!(details(&records[0], "system_activity_details")["count"], 7);
    assert_eq!(reader.finish(), 0);
    assert_eq!(reader.records().len(), 0, "once");
}

#[test]
fn sums_that_find_no_room_at_the_stop_are_lost_records() {
    let mut reader = reader();
    reader.scan(&with_pipes(12));
    reader.fill();
    // The sum, and what it was to sum up.
    assert_eq!(reader.finish(), 1 + 7);
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

/// An alert that finds the queue full must not be lost for good.
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
