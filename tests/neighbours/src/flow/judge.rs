//! Whether what a run has left behind is right.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::Plan;
use super::quiet::differences;
use super::records::{Sums, lost_at_end};
use super::run::Run;
use super::sensor::files;

/// How much memory may grow after tables have filled, as a factor.
const GROWTH: f64 = 1.02;
/// The most time until a signal is answered.
const ANSWER: Duration = Duration::from_secs(2);
/// The most time to end. The sensor waits 5 s for outputs that hang.
const END: Duration = Duration::from_secs(8);
/// Records that may wait for an output that hangs: their room, by the shortest of them.
const WAITING_MAX: u64 = (4 << 20) / 200;

/// A bound, and whether it holds.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) name: String,
    pub(super) holds: bool,
    pub(super) figures: String,
}

/// All bounds of a run.
pub(super) fn bounds(name: &str, run: &Run, plan: &Plan<'_>) -> Result<Vec<Bound>, String> {
    let mut all = Vec::new();
    let mut add = |what: &str, holds: bool, figures: String| {
        all.push(Bound { name: format!("{name}: {what}"), holds, figures });
    };
    let read = |file: &str| {
        let mut sums = Sums::default();
        sums.read(&run.folder.join(file)).map(|()| sums)
    };
    let judged = read(files::JUDGED)?;
    let moved = all_of(&run.folder, files::MOVED)?;
    for (what, flows) in [("flows", &judged.flows), ("flows in files that move", &moved.flows)] {
        let (shown, count) = differences(flows, &run.truth);
        let first = shown.join("; ");
        add(what, count == 0, format!("{count} of {} differ {first}", run.truth.len()));
    }
    let (records, lines) = (run.client_records, judged.flow_lines);
    add("records of a client", records == lines, format!("{records} of {lines}"));
    let (shown, count) = differences(&run.exports.0, &run.exports.1);
    let first = shown.join("; ");
    add("exported flows", count == 0, format!("{count} of {} differ {first}", run.exports.1.len()));
    losses(run, &judged, &read(files::RECEIVED)?, &mut add);
    let cut = all_of(&run.folder, files::CUT)?;
    let names = read(files::PASSIVE_DNS)?;
    let broken = [&judged, &moved, &cut, &names].map(|sums| sums.broken_lines);
    // A file that is cut while it is written may end within a line, once each time.
    let holds = [broken[0], broken[1], broken[3]] == [0; 3] && broken[2] <= run.rotations.into();
    add("whole lines", holds, format!("broken: {broken:?}"));
    for (what, memory) in [("memory", &run.memory), ("memory of exports", &run.export_memory)] {
        let (first, most) = (memory.first().copied().unwrap_or_default(), memory.iter().max());
        let (most, high) = (most.map_or(0, |most| most.0), memory.iter().map(|all| all.1).max());
        let factor = most as f64 / first.0.max(1) as f64;
        let peak = high.unwrap_or(0) as f64 / first.1.max(1) as f64;
        let figures = format!(
            "from {} to {} MiB at most, a factor of {factor:.3}; the peak grew by {peak:.3}",
            first.0 >> 20,
            most >> 20
        );
        let is_flat = !memory.is_empty() && factor <= GROWTH && peak <= GROWTH;
        // Before, tables fill.
        let (holds, rest) = if run.is_filled { (is_flat, "") } else { (true, "; too short") };
        add(what, holds, format!("{figures}{rest}"));
    }
    add("a signal is answered", run.answer <= ANSWER, format!("after {:?}", run.answer));
    let ends = [run.end, run.exports.2];
    add("the end", ends.iter().all(|end| *end <= END), format!("after {ends:?}"));
    let rate = run.hostile_packets as f64 / plan.time.as_secs_f64();
    add("the senders", true, format!("{rate:.0} packets a second"));
    Ok(all)
}

/// Whether each loss is in a record.
fn losses(run: &Run, judged: &Sums, received: &Sums, add: &mut impl FnMut(&str, bool, String)) {
    let gap = |name: &str| judged.missed.get(name).copied().unwrap_or(0);
    let dropped = judged.dropped_packets;
    add("no packet is lost", dropped == 0, format!("{dropped} were"));
    let (packets, junk) = (judged.packets, gap("mirrors"));
    let sent = run.neighbour_packets + run.hostile_packets + run.mirrored;
    add(
        "each packet counts",
        sent == packets + dropped + junk,
        format!("{sent} sent; {packets} counted, {dropped} lost, {junk} datagrams without one"),
    );
    let missed = gap("packets");
    add("lost packets are in records", missed == dropped, format!("{missed} of {dropped}"));
    let at_end = lost_at_end(&run.messages);
    let path = |file: &str| run.folder.join(file).display().to_string();
    let outputs = [
        ("judged", path(files::JUDGED)),
        ("moved", path(files::MOVED)),
        ("cut", path(files::CUT)),
        ("received", "standard output".to_owned()),
        ("hung", path(files::HUNG)),
    ];
    for (what, output) in outputs {
        let lost = at_end.get(&output).copied().unwrap_or(0);
        let recorded = judged.dropped.get(&output).copied().unwrap_or(0);
        // What waits for an output that hangs is lost when all records are written.
        let waiting = if what == "hung" { WAITING_MAX } else { 0 };
        let holds = (recorded..=recorded + waiting).contains(&lost);
        add(
            &format!("records that {what} has lost are in records"),
            holds,
            format!("{recorded} of {lost}"),
        );
        if what == "received" {
            let (made, lines) = (judged.records + judged.other_lines, received.lines());
            add(
                "what receives has each other record",
                made == lines + lost && received.broken_lines == 0,
                format!("{made} made; {lines} received, {lost} lost"),
            );
        }
    }
}

/// What a file and those that it was rotated to have.
fn all_of(folder: &Path, file: &str) -> Result<Sums, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut sums = Sums::default();
    for entry in fs::read_dir(folder).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        if entry.file_name().to_string_lossy().starts_with(file) {
            sums.read(&entry.path())?;
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_must_be_in_records() {
        let run = Run {
            messages: "x 3 records could not be written to standard output".into(),
            neighbour_packets: 5,
            hostile_packets: 4,
            mirrored: 2,
            ..Run::default()
        };
        let mut judged = Sums { packets: 9, dropped_packets: 1, records: 9, ..Sums::default() };
        judged.missed = [("mirrors".to_owned(), 1), ("packets".to_owned(), 1)].into();
        judged.dropped = [("standard output".to_owned(), 3)].into();
        let received = Sums { flow_lines: 6, ..Sums::default() };
        let missed = |judged: &Sums| {
            let mut names = Vec::new();
            losses(&run, judged, &received, &mut |name, holds, _| {
                if !holds {
                    names.push(name.to_owned());
                }
            });
            names
        };
        assert_eq!(missed(&judged), ["no packet is lost"]);
        judged.dropped.clear();
        judged.missed.clear();
        let all = missed(&judged);
        assert_eq!(all.len(), 4, "{all:?}");
    }
}
