//! Random lives of a whole machine. In any order of births, deaths and torn scans, each process is
//! created once and terminated once, and so is each descriptor while its process lives.

use std::collections::HashMap;

use proptest::prelude::*;

use super::watch::{Watch, limits};
use super::world::{FakeFile, FakeProcess, World};
use crate::state::StateSettings;
use crate::time::RealTime;

#[derive(Clone, Debug)]
enum Step {
    Fork { pid: u32, exec: bool },
    Exec(usize, bool),
    Load(usize),
    Exit(usize),
    Zombie(usize),
    Open(usize, u32, u64),
    Close(usize, usize),
    Spawn(usize, u32),
    Scan { torn: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (2..20_u32, any::<bool>()).prop_map(|(pid, exec)| Step::Fork { pid, exec }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(p, inside)| Step::Exec(p, inside)),
        1 => any::<usize>().prop_map(Step::Load),
        2 => any::<usize>().prop_map(Step::Exit),
        1 => any::<usize>().prop_map(Step::Zombie),
        3 => (any::<usize>(), 0..6_u32, 0..9_u64).prop_map(|(p, fd, ino)| Step::Open(p, fd, ino)),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(p, fd)| Step::Close(p, fd)),
        1 => (any::<usize>(), 0..5_u32).prop_map(|(p, tid)| Step::Spawn(p, tid)),
        4 => prop::bool::weighted(0.2).prop_map(|torn| Step::Scan { torn }),
    ];
    proptest::collection::vec(step, 0..120)
}

fn pick(world: &mut World, at: usize) -> Option<&mut FakeProcess> {
    let count = world.processes.len() - 1;
    (count > 0).then(|| &mut world.processes[1 + at % count])
}

fn apply(world: &mut World, step: &Step, births: &mut u64) {
    match *step {
        Step::Fork { pid, exec } => {
            if world.processes.iter().all(|process| process.pid != pid) {
                *births += 1;
                let mut child = FakeProcess::new(pid);
                child.start = *births * 1000;
                child.exec_id = if exec { 2 } else { 1 };
                world.processes.push(child);
            }
        }
        // It stays inside, or not.
        Step::Exec(at, inside) => {
            if let Some(process) = pick(world, at) {
                process.exec_id += 1;
                process.mm += 0x10;
                process.in_exec = inside;
            }
        }
        Step::Load(at) => {
            if let Some(process) = pick(world, at) {
                process.in_exec = false;
            }
        }
        Step::Exit(at) => {
            if let Some(pid) = pick(world, at).map(|process| process.pid) {
                world.remove(pid);
            }
        }
        Step::Zombie(at) => {
            if let Some(process) = pick(world, at) {
                process.become_zombie();
            }
        }
        Step::Open(at, index, ino) => {
            if let Some(process) = pick(world, at).filter(|process| process.exit_state == 0) {
                let file = FakeFile::regular(0xffff_8885_0000_0000 + ino * 512, ino, "file");
                match process.files.binary_search_by_key(&index, |file| file.0) {
                    Ok(place) => process.files[place].1 = file,
                    Err(place) => process.files.insert(place, (index, file)),
                }
            }
        }
        Step::Close(at, index) => {
            if let Some(process) = pick(world, at)
                && !process.files.is_empty()
            {
                let index = index % process.files.len();
                process.files.remove(index);
            }
        }
        Step::Spawn(at, tid) => {
            if let Some(process) = pick(world, at).filter(|process| process.exit_state == 0) {
                let tid = process.pid * 100 + tid;
                if process.threads.iter().all(|thread| thread.tid != tid) {
                    *process = process.clone().with_thread(tid);
                    process.threads.sort_by_key(|thread| thread.tid);
                }
            }
        }
        Step::Scan { .. } => {}
    }
}

/// The changes that each scan of some steps shows; `real_ns` gives the real time of each scan.
fn changes(steps: &[Step], real_ns: impl Fn(usize) -> i64) -> Vec<Vec<String>> {
    let mut watch = Watch::new(&limits(), StateSettings::default());
    let (mut world, mut births, mut all) = (World::default(), 0, Vec::new());
    for step in steps {
        apply(&mut world, step, &mut births);
        world.forks = Some(1000 + births * 2);
        if matches!(step, Step::Scan { .. }) {
            // Ten seconds a scan: reports that wait for some time become due.
            watch.now = watch.now.after(10_000_000_000);
            watch.now.real = RealTime::from_ns(real_ns(all.len()));
            all.push(watch.scan(&world));
        }
    }
    all
}

proptest! {
    #[test]
    fn a_step_of_the_real_time_changes_no_decision(
        steps in steps(),
        real in proptest::collection::vec(any::<i64>(), 1..8),
    ) {
        let expected = changes(&steps, |scan| scan as i64);
        prop_assert_eq!(changes(&steps, |scan| real[scan % real.len()]), expected);
    }

    #[test]
    fn what_is_created_is_terminated_once(steps in steps(), crowded in any::<bool>()) {
        let mut limits = limits();
        if crowded {
            limits.processes = 6;
            limits.file_descriptors = 5;
            limits.threads = 3;
        }
        let mut watch = Watch::new(&limits, StateSettings::default());
        let mut world = World::default();
        let mut births = 0;
        // Number of births of each key minus its ends: 0 or 1 at any time.
        let mut alive: HashMap<String, i32> = HashMap::new();
        prop_assert!(watch.scan(&world).is_empty());
        let settle = vec![Step::Scan { torn: false }; 5];
        let count = steps.len() + settle.len();
        for (at, step) in steps.iter().chain(&settle).enumerate() {
            apply(&mut world, step, &mut births);
            let Step::Scan { torn } = step else { continue };
            let mut shown = world.clone();
            if *torn {
                shown.idr_complete = false;
                shown.processes.truncate(1 + shown.processes.len() / 2);
            }
            let mut lines = watch.scan(&shown);
            if at + 1 == count {
                // What waits for the end of an exec.
                lines.extend(watch.finish());
            }
            for line in lines {
                let (kind, rest) = line.split_once(' ').unwrap();
                let key = rest.split(' ').next().unwrap();
                let thing = kind.trim_start_matches(['+', '-']);
                let count = alive.entry(format!("{thing} {key}")).or_default();
                match kind.as_bytes()[0] {
                    b'+' => *count += 1,
                    b'-' => *count -= 1,
                    _ => continue,
                }
                // What a process has beyond its share is not reported.
                let is_exact = !crowded || thing == "process";
                prop_assert!(!is_exact || (0..=1).contains(count), "{} of {:?}", line, thing);
                if kind == "-process" {
                    // Its children ended with it.
                    alive.retain(|other, _| {
                        *other != format!("process {key}") && !other.contains(&format!(" {key}/"))
                    });
                }
            }
        }
        if !crowded {
            let changes: Vec<_> = alive
                .iter()
                .filter(|(key, count)| key.starts_with("process") && **count == 1)
                .collect();
            prop_assert_eq!(changes.len(), world.processes.len() - 1, "{:?}", changes);
            let open: usize = world.processes.iter().map(|process| process.files.len()).sum();
            let changes = alive
                .iter()
                .filter(|(key, count)| key.starts_with("fd") && **count == 1)
                .filter(|(key, _)| {
                    let pid = key[3..].split('/').next().unwrap().parse::<u32>().unwrap();
                    world
                        .processes
                        .iter()
                        .any(|process| process.pid == pid && process.exit_state == 0)
                })
                .count();
            prop_assert_eq!(changes, open);
        }
    }
}
