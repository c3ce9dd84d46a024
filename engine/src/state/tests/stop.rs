//! A request to stop in the middle of a comparison.

use core::cell::Cell;
use core::ops::Range;

use super::watch::{Watch, at_once, limits, next_scan};
use super::world::{
    ESTABLISHED, FakeArea, FakeFile, FakeProcess, FakeSocket, FakeThread, R, W, World,
};
use crate::limits::Limits;
use crate::state::emit::ROWS_A_QUESTION;
use crate::state::{Change, ScanContext};

const MANY: u32 = 2000;

/// A machine before and after something that makes many changes at once.
struct Event {
    name: &'static str,
    before: World,
    after: World,
}

fn process(pid: u32) -> FakeProcess {
    let mut process = FakeProcess::new(pid);
    process.arguments.clear();
    process
}

fn with(edit: impl FnOnce(&mut FakeProcess)) -> World {
    let mut process = process(7);
    edit(&mut process);
    World::default().with(process)
}

fn with_descriptors(seed: u64) -> World {
    let file = |index: u32| FakeFile::pipe(seed + u64::from(index) * 256, index.into());
    with(|process| process.files = (0..MANY).map(|index| (index, file(index))).collect())
}

fn with_areas(flags: u64) -> World {
    let area = |at: u64| FakeArea::anonymous(at << 20, (at << 20) + 4096, flags);
    with(|process| process.areas = (1..=u64::from(MANY)).map(area).collect())
}

/// Descriptors and a thread's own table that stay, or come, after many that are closed.
fn with_later_descriptors(few: bool) -> World {
    let file = |index: u32| FakeFile::pipe(u64::from(index + 1) * 256, index.into());
    with(|process| {
        let first = if few { MANY } else { 0 };
        process.files = (first..MANY + 16).map(|index| (index, file(index))).collect();
        let files = few.then(|| vec![(1, file(MANY + 20))]);
        process.threads.push(FakeThread { files, ..FakeThread::new(8) });
    })
}

fn with_threads(numbers: Range<u32>) -> World {
    with(|process| process.threads = numbers.map(FakeThread::new).collect())
}

fn events() -> Vec<Event> {
    let none = || with(|_| ());
    let both = |name, before, after| Event { name, before, after };
    let processes = World {
        processes: World::default().processes.into_iter().chain((2..MANY).map(process)).collect(),
        ..World::default()
    };
    let threads = with_threads(8..8 + MANY);
    let socket = |port: u32| FakeSocket::new(u64::from(port) << 12, port as u16, ESTABLISHED);
    let sockets = World { sockets: (1..=MANY).map(socket).collect(), ..none() };
    vec![
        both("processes begin", none(), processes.clone()),
        both("processes end", processes, World::default()),
        both("threads begin", none(), threads.clone()),
        both("threads end", threads, none()),
        both("lower threads end", with_threads(8..MANY + 16), with_threads(MANY..MANY + 16)),
        both("descriptors are opened", none(), with_descriptors(1)),
        both("descriptors are closed", with_descriptors(1), none()),
        both(
            "lower descriptors are closed",
            with_later_descriptors(false),
            with_later_descriptors(true),
        ),
        both("descriptors are replaced", with_descriptors(1), with_descriptors(1 << 40)),
        both("nothing happens to descriptors", with_descriptors(1), with_descriptors(1)),
        both("areas are mapped", none(), with_areas(R)),
        both("areas are unmapped", with_areas(R), none()),
        both("areas change", with_areas(R), with_areas(R | W)),
        both("nothing happens to areas", with_areas(R), with_areas(R)),
        both("connections begin", none(), sockets.clone()),
        both("connections end", sockets.clone(), none()),
        both("nothing happens to connections", sockets.clone(), sockets),
    ]
}

/// What a comparison did.
#[derive(Debug)]
struct Compared {
    is_whole: bool,
    /// Number of questions whether to stop, until the answer is yes.
    questions: u32,
    changes: u32,
    /// Most changes from one question to the next.
    most: u32,
    /// Number of changes after the answer.
    after: u32,
}

/// Compares the second machine with the first. The question with a number, and those after it, are
/// answered by a request to stop.
fn compare(event: &Event, last: u32) -> Compared {
    let limits = Limits {
        processes: MANY + 64,
        threads: 2 * MANY,
        file_descriptors: 2 * MANY,
        vmas: 2 * MANY,
        connections: 2 * MANY,
        ..limits()
    };
    let mut watch = Watch::new(&limits, at_once());
    // A connection must be absent in two scans to have ended.
    let worlds = [&event.before, &event.before, &event.after];
    for world in worlds {
        watch.scan(world);
        if world.sockets.is_empty() {
            break;
        }
    }
    event.after.show(&mut watch.snapshot);
    let (questions, changes, most) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let (at_question, is_stopped, after) = (Cell::new(0), Cell::new(false), Cell::new(0));
    let must_stop = || {
        if !is_stopped.get() {
            questions.set(questions.get() + 1);
            most.set(most.get().max(changes.get() - at_question.replace(changes.get())));
            is_stopped.set(questions.get() >= last);
        }
        is_stopped.get()
    };
    let out = &mut |_: &ScanContext<'_>, _: &Change<'_>| {
        changes.set(changes.get() + 1);
        after.set(after.get() + u32::from(is_stopped.get()));
    };
    let now = next_scan(watch.now);
    let is_whole = watch.state.update_unless(&must_stop, &watch.snapshot, now, &mut (), out);
    Compared {
        is_whole,
        questions: questions.get(),
        changes: changes.get(),
        most: most.get().max(changes.get() - at_question.get()),
        after: after.get(),
    }
}

#[test]
fn a_comparison_ends_with_the_object_at_which_it_must_stop() {
    for event in events() {
        let name = event.name;
        let whole = compare(&event, u32::MAX);
        assert!(whole.is_whole && whole.after == 0, "{name}: {whole:?}");
        assert!(name.starts_with("nothing") || whole.changes >= MANY - 8, "{name}: {whole:?}");
        assert!(whole.questions >= MANY / ROWS_A_QUESTION, "{name}: {whole:?}");
        assert!(whole.most <= 2 * ROWS_A_QUESTION + 8, "{name}: {whole:?}");
        for part in 0..8 {
            let stopped = compare(&event, 1 + whole.questions * part / 8);
            assert!(!stopped.is_whole, "{name}: {stopped:?}");
            assert_eq!(stopped.after, 0, "{name}: {stopped:?}");
        }
    }
}
