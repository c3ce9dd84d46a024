//! A VMCOREINFO with one forged line at a time: discovery finds the right kernel or none, never
//! another.

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Kernel, Scope};
use panoptes_profiles::{DiscoveryOptions, discover};
use panoptes_sources::{Detail, SourceMeter};

use panoptes_rig::Random;

use super::common::Scanner;
use super::common::damage::Damaged;
use super::common::recorded::Seen;
use super::{Machine, Watch, processor_time, small_machines};

/// Longest processor time of discovery in an image of some megabytes.
const DISCOVERY_SECONDS_MAX: u64 = if cfg!(debug_assertions) { 30 } else { 5 };

const KINDS: u64 = 7;

/// Forges a line; `other` is another line of the same text.
fn forge(line: &str, other: &str, kind: u64, random: &mut Random) -> String {
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let other_value = other.split_once('=').map_or("", |(_, value)| value);
    match kind {
        0 => String::new(),
        1 => format!("{key}=0"),
        2 => format!("{key}={}", "f".repeat(value.len())),
        3 => format!("{key}={other_value}"),
        4 => format!("{key}={value}{value}{value}"),
        5 => format!("{key}=-9223372036854775808"),
        _ => {
            let mut bytes = line.as_bytes().to_vec();
            if let Some(byte) = bytes.last_mut() {
                *byte = b"0123456789abcdef"[random.below(16)];
            }
            String::from_utf8(bytes).unwrap_or_default()
        }
    }
}

fn text_at(machine: &Machine) -> (PhysicalAddress, String) {
    let at = machine.profile.found_at;
    let mut page = vec![0; (PAGE_BYTES - at.0 % PAGE_BYTES) as usize];
    assert!(machine.memory.clone().read_exact(at, &mut page), "the text is in the image");
    let length = page.iter().position(|&byte| byte == 0).unwrap_or(page.len());
    (at, String::from_utf8(page[..length].to_vec()).expect("it is text"))
}

/// Checks that it is the same kernel, though less may be known of it.
fn check_same(truth: &Kernel, found: &Kernel) {
    assert_eq!(found.layouts, truth.layouts);
    let (space, other) = (&truth.space, &found.space);
    assert_eq!(
        (space.levels, space.root, &space.direct_map, space.image_physical, space.image.start),
        (other.levels, other.root, &other.direct_map, other.image_physical, other.image.start),
    );
    assert!(other.vmemmap_base == space.vmemmap_base || other.vmemmap_base == 0);
    let roots = |kernel: &Kernel| {
        let roots = kernel.roots;
        [
            roots.init_task,
            roots.init_pid_ns,
            roots.init_net,
            roots.init_uts_ns,
            roots.timekeeper,
            roots.tsc_khz,
            roots.boot_id,
            roots.total_forks,
            roots.gate_vma,
        ]
    };
    for (found, truth) in roots(found).into_iter().zip(roots(truth)) {
        assert!(found == truth || found.is_null(), "{found} instead of {truth}");
    }
}

#[test]
fn a_forged_note_leads_to_the_right_kernel_or_to_none() {
    let Some(machines) = small_machines("discovery with forged notes") else { return };
    let watch = Watch::new("forged notes");
    let mut scanner = Scanner::new(&Limits::default());
    let every_kind = !cfg!(debug_assertions);
    let count = if every_kind { machines.len() } else { 1 };
    for machine in &machines[..count] {
        let (at, text) = text_at(machine);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() > 20, "{} lines", lines.len());
        let mut damaged = Damaged::new(machine);
        let truth = scanner.see(&mut damaged.memory, &machine.kernel).1;
        let (mut found, mut same, mut refused, mut worst) = (0, 0, 0, 0);
        for (number, line) in lines.iter().enumerate() {
            let mut random = Random(number as u64);
            let kinds = if every_kind { 0..KINDS } else { random.next() % KINDS..KINDS };
            for kind in kinds.take(if every_kind { KINDS as usize } else { 1 }) {
                let other = lines[random.below(lines.len())];
                let new = forge(line, other, kind, &mut random);
                watch.next(&format!("{line:?} made {new:?}, on {}", machine.name));
                let forged: Vec<&str> = lines
                    .iter()
                    .enumerate()
                    .map(|(index, old)| if index == number { new.as_str() } else { old })
                    .collect();
                let mut bytes = (forged.join("\n") + "\n").into_bytes();
                bytes.resize(text.len(), 0);
                damaged.write(at, &bytes);
                let begin = processor_time();
                let profile = discover(&mut damaged.memory, &DiscoveryOptions::default(), &mut ());
                let time = processor_time().saturating_sub(begin);
                assert!(time.as_secs() < DISCOVERY_SECONDS_MAX, "discovery took {time:?}");
                worst = worst.max(time.as_millis());
                match profile {
                    Ok(profile) => {
                        found += 1;
                        let kernel = kernel_of(&profile);
                        check_same(&machine.kernel, &kernel);
                        let seen = scanner.see(&mut damaged.memory, &kernel).1;
                        assert!(seen.lines <= truth.lines, "a forged line was trusted");
                        same += u64::from(seen == truth);
                    }
                    Err(_) => refused += 1,
                }
                damaged.heal();
            }
        }
        eprintln!(
            "{}: {} lines, found {found} times ({same} with all that it knows), refused {refused} \
             times, {worst} ms at worst",
            machine.name,
            lines.len()
        );
        assert!(same > 0, "most lines do not matter");
    }
}

/// Discovery on memory that is damaged everywhere: an error or a kernel, which then can be scanned.
#[test]
fn discovery_of_damaged_memory_ends() {
    let Some(machines) = small_machines("discovery of damaged memory") else { return };
    let watch = Watch::new("damaged discovery");
    let mut scanner = Scanner::new(&Limits::default());
    let count = if cfg!(debug_assertions) { 1 } else { machines.len() };
    for machine in &machines[..count] {
        let mut damaged = Damaged::new(machine);
        let pages: Vec<PhysicalAddress> = machine.memory.page_addresses().collect();
        let (mut found, mut worst) = (0, 0);
        for seed in super::random::rounds(10) {
            watch.next(&format!("PANOPTES_SEED={seed} on {}", machine.name));
            let mut random = Random(seed);
            for _ in 0..1 << random.below(10) {
                damaged.strike(&pages, &mut random);
            }
            let begin = processor_time();
            let mut meter = SourceMeter::new(&mut damaged.memory, Detail::Batches).unwrap();
            let profile = discover(&mut meter, &DiscoveryOptions::default(), &mut ());
            if let Ok(profile) = profile {
                found += 1;
                let kernel = kernel_of(&profile);
                scanner.walker.forget();
                if let Ok(snapshot) = scanner.walker.scan(&mut meter, &kernel, Scope::ALL) {
                    Seen::of(snapshot, &kernel, &mut scanner.lines);
                }
            }
            let time = processor_time().saturating_sub(begin);
            assert!(time.as_secs() < DISCOVERY_SECONDS_MAX, "it took {time:?}");
            worst = worst.max(time.as_millis());
            damaged.heal();
        }
        eprintln!("{}: damaged, found {found} times, {worst} ms at worst", machine.name);
    }
}
