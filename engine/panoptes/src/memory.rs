//! How much memory a configuration needs, and how much this machine has.
//!
//! All memory for scans is allocated when a system is attached. So its size is known before, and a
//! configuration that needs too much is refused instead of ended by the kernel.
//!
//! Not here: memory of sources, such as the cache of a compressed dump.

mod outputs;
mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use panoptes_engine::container_config::Images;
use panoptes_engine::detect::binary_attestation::{
    ShippedBuilder, ShippedFile, ShippedFiles, ShippedSubject,
};
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::walk::Walker;
use panoptes_engine::watch::{Attestation, WatchedMachine, Workspace};
use panoptes_records::queue::QueueSize;
use panoptes_records::record::RECORD_BYTES_MAX;
use panoptes_tables::{HashKey, room};

use self::outputs::{of_flows, of_outputs};
use crate::config::{Configuration, System, SystemSettings};
use crate::exit::{Exit, Failure};
use crate::sbom::Sboms;
use crate::scanner_cores::ScannerCores;
use crate::size::show;

/// Blocks of the queues of all quick scanners together: room for the records of a burst, 32 MiB.
const QUICK_BLOCKS: usize = 128;
/// The same for one of them at least: 4 MiB.
const QUICK_BLOCKS_LEAST: usize = 16;
const SCANNER_BLOCK_BYTES: usize = 256 * 1024;
/// Room for the records of one burst from the slow scanner: 8 MiB.
pub(crate) const SLOW_QUEUE: QueueSize = QueueSize { blocks: 32, block_bytes: SCANNER_BLOCK_BYTES };
/// Each record of the control thread takes a block, since it is flushed at once.
pub(crate) const CONTROL_QUEUE: QueueSize = QueueSize { blocks: 64, block_bytes: 32 * 1024 };
const _: () = {
    assert!(SCANNER_BLOCK_BYTES >= RECORD_BYTES_MAX, "a block holds the longest record");
    assert!(CONTROL_QUEUE.block_bytes >= RECORD_BYTES_MAX, "a block holds the longest record");
    assert!(QUICK_BLOCKS_LEAST <= QUICK_BLOCKS, "one scanner has no more than all");
};

/// Room for the records of one burst from each of `count` quick scanners.
pub(crate) fn quick_queue(count: usize) -> QueueSize {
    let blocks = (QUICK_BLOCKS / count.max(1)).max(QUICK_BLOCKS_LEAST);
    QueueSize { blocks, block_bytes: SCANNER_BLOCK_BYTES }
}

/// Scanners that run in any case if the cores are not given: a quick one and the slow one.
const SCANNERS_LEAST: u64 = 2;

/// Why limits are refused whose sum is not even a number.
pub(crate) const TOO_MUCH: &str =
    "the limits need more memory than any machine has; lower `limits`";

/// Systems to watch, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub configuration: &'a Configuration,
    pub systems: &'a [System],
    /// Whether other guests of this machine are watched, too.
    pub auto_scan: bool,
    /// The SBOMs, once they were read.
    pub sboms: Option<&'a Sboms>,
}

/// Bytes that watching needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryDemand {
    /// Name of each system, and the bytes that it needs.
    pub systems: Vec<(String, u64)>,
    /// Bytes of each guest that is found later.
    pub found: Option<u64>,
    /// Number of scanner threads that run in any case.
    pub scanners: u64,
    /// Number of those that are started only while they are needed, and if there is room.
    pub further_scanners: u64,
    /// Bytes of one scanner thread.
    pub scanner: u64,
    /// Bytes for the searches for kernels, for the outputs, for the control thread and for the
    /// sensor of flows.
    pub service: u64,
    pub sboms: u64,
    /// Further bytes while changed SBOMs are applied to all systems.
    pub reload: u64,
}

impl MemoryDemand {
    /// Computes what a plan needs; `None` if it is not a number of 64 bits.
    pub fn of(plan: &Plan<'_>) -> Option<Self> {
        let found = plan.auto_scan.then_some(&plan.configuration.default);
        let of_system = |system: &System| Some((system.name.clone(), of_system(&system.settings)?));
        let limits = largest(plan.systems, found);
        let workspace = room::measure(|| Workspace::new(&limits, HashKey::new(0)))?;
        let walker = room::measure(|| first_walker(&limits))?;
        let output = &plan.configuration.output;
        let outputs = of_outputs(output)?.checked_add(of_flows(plan.configuration)?)?;
        let (quick, least, has_slow) = scanners(plan);
        let slow_queue = if has_slow { SLOW_QUEUE.bytes() } else { 0 };
        let queues = quick * quick_queue(quick).bytes() + slow_queue;
        let reload = plan.systems.iter().map(|system| of_reload(&system.settings));
        Some(Self {
            systems: plan.systems.iter().map(of_system).collect::<Option<_>>()?,
            found: match found {
                Some(settings) => Some(of_system_settings(settings)?),
                None => None,
            },
            scanners: (least + usize::from(has_slow)) as u64,
            further_scanners: (quick - least) as u64,
            scanner: workspace,
            service: walker
                .checked_add((CONTROL_QUEUE.bytes() + queues) as u64)?
                .checked_add(outputs)?,
            sboms: plan.sboms.map_or(0, Sboms::bytes),
            reload: reload.sum::<Option<u64>>()?,
        })
    }

    /// The largest set of limits ([`Limits::PRESETS`]) with which a plan needs no more than is
    /// left, and how many bytes it needs then; `None` if none is small enough. The sets stand for
    /// the limits of all systems.
    pub(crate) fn fitting_preset(
        plan: &Plan<'_>,
        left: &MemoryLeft,
    ) -> Option<(&'static str, u64)> {
        Limits::PRESETS.iter().rev().find_map(|(name, limits)| {
            let mut configuration = plan.configuration.clone();
            configuration.default.limits = *limits;
            let of_preset = |system: &System| {
                let settings = SystemSettings { limits: *limits, ..system.settings.clone() };
                System { settings, ..system.clone() }
            };
            let systems: Vec<System> = plan.systems.iter().map(of_preset).collect();
            let plan = Plan { configuration: &configuration, systems: &systems, ..*plan };
            let sum = Self::of(&plan)?.sum()?;
            (sum <= left.bytes).then_some((*name, sum))
        })
    }

    /// All of it, without guests that are found later.
    pub fn sum(&self) -> Option<u64> {
        let systems = self.systems.iter().map(|(_, bytes)| *bytes);
        let others = [self.service, self.sboms, self.reload];
        let scanners = self.scanners.checked_mul(self.scanner)?;
        systems.chain(others).try_fold(scanners, u64::checked_add)
    }

    /// Number of further scanners for which there is room: they use at most half of what is left,
    /// since guests may be found later.
    pub(crate) fn further_that_fit(&self, left: &MemoryLeft) -> usize {
        let spare = self.sum().map_or(0, |sum| left.bytes.saturating_sub(sum)) / 2;
        let fit = spare.checked_div(self.scanner).unwrap_or(u64::MAX);
        usize::try_from(fit.min(self.further_scanners)).unwrap_or(usize::MAX)
    }

    /// Refuses what needs more than is left.
    ///
    /// # Errors
    ///
    /// The sum exceeds `left`; the message has the figures.
    pub fn check(&self, left: &MemoryLeft) -> Result<(), Failure> {
        self.check_with(left, "left")
    }

    /// Refuses what needs more than there would be if no program ran.
    ///
    /// # Errors
    ///
    /// The sum exceeds `all`; the message has the figures.
    pub fn check_in_all(&self, all: &MemoryLeft) -> Result<(), Failure> {
        self.check_with(all, "in all")
    }

    fn check_with(&self, memory: &MemoryLeft, what: &str) -> Result<(), Failure> {
        if self.sum().is_some_and(|sum| sum <= memory.bytes) {
            return Ok(());
        }
        let cores = if self.scanners > SCANNERS_LEAST { "use fewer `service.cores`, " } else { "" };
        let message = format!(
            "the configuration {self}, and this machine has {} {what} ({}); {cores}lower `limits`, \
             watch fewer systems, or add memory",
            show(memory.bytes),
            memory.by
        );
        Err(Failure::new(Exit::Configuration, message))
    }
}

/// How much more memory a changed configuration needs than the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Growth(Option<u64>);

impl Growth {
    /// From one plan to another one, while so many found systems are watched by so many scanners.
    /// The memory of these is enough for `limits`.
    pub(crate) fn between(
        old: &Plan<'_>,
        new: &Plan<'_>,
        found: u64,
        (scanners, limits): (u64, &Limits),
    ) -> Self {
        let present = room::measure(|| Workspace::new(limits, HashKey::new(0)));
        let sum = |plan: &Plan<'_>| {
            let needed = MemoryDemand::of(plan)?;
            let found = needed.found.unwrap_or(0).checked_mul(found)?;
            let scanners = needed.scanner.max(present?).checked_mul(scanners)?;
            let systems = needed.systems.iter().map(|(_, bytes)| *bytes);
            systems
                .chain([found, needed.service, needed.reload])
                .try_fold(scanners, u64::checked_add)
        };
        Self(sum(new).map(|new| new.saturating_sub(sum(old).unwrap_or(0))))
    }

    /// Refuses more than is left and not promised to others.
    ///
    /// # Errors
    ///
    /// The message has the figures.
    pub(crate) fn check(self, left: &MemoryLeft, promised: &PromisedMemory) -> Result<(), Failure> {
        let bytes = left.bytes.saturating_sub(promised.0.load(Ordering::SeqCst));
        if self.0.is_some_and(|more| more <= bytes) {
            return Ok(());
        }
        let more = self.0.map_or_else(|| "more than any machine has".to_owned(), show);
        let message = format!(
            "it needs {more} of memory more, and this machine has {} left ({}); lower `limits`, \
             watch fewer systems, or add memory",
            show(bytes),
            left.by
        );
        Err(Failure::new(Exit::Configuration, message))
    }
}

/// For people, in one line.
impl std::fmt::Display for MemoryDemand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum = self.sum().map_or_else(|| "more than any machine has".to_owned(), show);
        let count = self.systems.len();
        let plural = if count == 1 { "" } else { "s" };
        let systems = self.systems.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let scanners = self.scanners.saturating_mul(self.scanner);
        write!(
            f,
            "needs {sum} of memory: {} for {count} system{plural}, {} for {} scanner{}, {} for the \
             rest",
            show(systems),
            show(scanners),
            self.scanners,
            if self.scanners == 1 { "" } else { "s" },
            show(self.service.saturating_add(self.sboms).saturating_add(self.reload)),
        )?;
        if self.further_scanners > 0 {
            let count = self.further_scanners;
            let (plural, each) = (if count == 1 { "" } else { "s" }, show(self.scanner));
            write!(f, "; {each} for each of up to {count} further scanner{plural}")?;
        }
        if let Some(found) = self.found {
            write!(f, "; and {} for each guest that is found", show(found))?;
        }
        Ok(())
    }
}

/// Bytes that are promised to parts of the program, which have not allocated them yet: they are not
/// left, although the machine shows them as such.
#[derive(Clone, Debug, Default)]
pub(crate) struct PromisedMemory(Arc<AtomicU64>);

/// Bytes that are promised as long as this exists.
#[derive(Debug)]
pub(crate) struct Promise {
    all: PromisedMemory,
    bytes: u64,
    /// Bytes that were promised to others before.
    others: u64,
}

impl PromisedMemory {
    /// Promises so many bytes.
    pub(crate) fn add(&self, bytes: u64) -> Promise {
        let others = self.0.fetch_add(bytes, Ordering::SeqCst);
        Promise { all: self.clone(), bytes, others }
    }

    #[cfg(test)]
    fn bytes(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

fn of_system(settings: &SystemSettings) -> Option<u64> {
    of_system_settings(settings)
}

/// Refuses a system for which too little memory is left; promises it what it needs.
///
/// # Errors
///
/// It needs more than is left and not promised to others; the message has the figures.
pub(crate) fn check_system(system: &System, promised: &PromisedMemory) -> Result<Promise, Failure> {
    check_system_with(system, promised, MemoryLeft::now)
}

fn check_system_with(
    system: &System,
    promised: &PromisedMemory,
    left: impl FnOnce() -> Option<MemoryLeft>,
) -> Result<Promise, Failure> {
    // If it cannot be attached to otherwise, it reads its first process with a walker of its own.
    let walker = room::measure(|| first_walker(&system.settings.limits)).unwrap_or(u64::MAX);
    let bytes = of_system_settings(&system.settings).unwrap_or(u64::MAX).saturating_add(walker);
    // One of two that ask at the same time sees the other's promise.
    let promise = promised.add(bytes.min(1 << 60));
    let others = promise.others;
    match left() {
        Some(left) if left.bytes < bytes.saturating_add(others) => {
            let (name, needed, left_bytes) = (&system.name, show(bytes), show(left.bytes));
            let message = format!(
                "{name}: needs {needed} of memory, and this machine has {left_bytes} left ({}), of \
                 which other systems and scanners are about to use {}; lower its `limits`",
                left.by,
                show(others)
            );
            Err(Failure::new(Exit::Failed, message))
        }
        _ => Ok(promise),
    }
}

/// Bytes for one system with these settings; `None` if it is not a number of 64 bits.
pub fn of_system_settings(settings: &SystemSettings) -> Option<u64> {
    let policy = PolicyConfig::from(&settings.events);
    WatchedMachine::bytes(&settings.limits, &policy, &stand_in(settings))
}

fn of_reload(settings: &SystemSettings) -> Option<u64> {
    let (shipped, images) = (stand_in(settings), Images::default());
    room::measure(|| Attestation::new(&settings.limits, shipped, images, HashKey::new(0)))
}

/// Some content if the settings name an SBOM: whether there is any decides what is allocated.
fn stand_in(settings: &SystemSettings) -> Arc<ShippedFiles> {
    let mut builder = ShippedBuilder::new();
    if !settings.sbom.is_empty()
        && let Ok(everywhere) = builder.subject(&ShippedSubject::Everywhere)
    {
        let file = ShippedFile { sha256: Some([0; 32]), ..ShippedFile::default() };
        // There is room for one.
        let _ = builder.add(everywhere, &file);
    }
    Arc::new(builder.build())
}

/// Limits that are enough for all systems.
pub(crate) fn largest(systems: &[System], found: Option<&SystemSettings>) -> Limits {
    let systems = systems.iter().map(|system| &system.settings);
    let limits = systems.chain(found).map(|settings| settings.limits).reduce(Limits::largest);
    // Without a system, scanners have nothing to do until a reload adds one.
    let (_, smallest) = Limits::PRESETS[0];
    limits.unwrap_or(smallest)
}

/// Reads processes, and nothing else, of systems with these limits.
pub(crate) fn first_walker(limits: &Limits) -> Walker {
    let limits = Limits { file_descriptors: 1, vmas: 1, connections: 1, ..*limits };
    Walker::new(&limits, crate::random::hash_key())
}

/// Number of quick scanner threads at most and at least, and whether there is a slow one.
fn scanners(plan: &Plan<'_>) -> (usize, usize, bool) {
    let most = most_systems(plan);
    let cores = ScannerCores::of(&plan.configuration.service.cores);
    let quick = cores.quick(most);
    (quick, if cores.is_auto { 1 } else { quick }, most > 1)
}

/// Maximum number of systems; that of those which `auto_scan` will find is unknown.
fn most_systems(plan: &Plan<'_>) -> usize {
    if plan.auto_scan { usize::MAX } else { plan.systems.len() }
}

/// How much memory this machine has left, and what limits it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryLeft {
    pub bytes: u64,
    /// The file that shows it.
    pub by: String,
}

impl MemoryLeft {
    /// Reads how much is left now; `None` if that is not known.
    pub fn now() -> Option<Self> {
        Self::under(Path::new("/"), "MemAvailable")
    }

    /// Reads how much there would be if no program ran; `None` if that is not known.
    pub fn in_all() -> Option<Self> {
        Self::under(Path::new("/"), "MemTotal")
    }

    /// The same, with /proc and /sys of another root directory.
    fn under(root: &Path, key: &str) -> Option<Self> {
        let of_machine = of_machine(root, key);
        let is_now = key == "MemAvailable";
        let groups = groups(root).into_iter().filter_map(|folder| of_group(&folder, is_now));
        let of_process = process::limits(root, is_now);
        of_machine.into_iter().chain(groups).chain(of_process).min_by_key(|left| left.bytes)
    }
}

fn of_machine(root: &Path, key: &str) -> Option<MemoryLeft> {
    let path = root.join("proc/meminfo");
    let text = fs::read_to_string(&path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib: u64 = lines.next()?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(MemoryLeft { bytes: kib.checked_mul(1024)?, by: format!("{key} in /proc/meminfo") })
}

/// The folders of this process's control group and of those around it, in the unified hierarchy.
fn groups(root: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let top = root.join("sys/fs/cgroup");
    let own = top.join(path);
    own.ancestors().take_while(|folder| folder.starts_with(&top)).map(Path::to_owned).collect()
}

/// What a control group may use: in all, or now beside what it uses.
fn of_group(folder: &Path, is_now: bool) -> Option<MemoryLeft> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    let path = folder.join("memory.max");
    // The page cache makes room when memory is needed.
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let of_files = |line: &str| -> Option<u64> {
        let line = line.strip_prefix("active_file ").or(line.strip_prefix("inactive_file "));
        line?.trim().parse().ok()
    };
    let cache: u64 = stat.lines().filter_map(of_files).sum();
    let used = if is_now { number("memory.current").unwrap_or(0) } else { 0 };
    let used = used.saturating_sub(cache);
    let bytes = number("memory.max")?.saturating_sub(used);
    Some(MemoryLeft { bytes, by: path.display().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cores, Mode, SystemAddress};

    fn plan(configuration: &Configuration) -> Plan<'_> {
        Plan { configuration, systems: &[], auto_scan: true, sboms: None }
    }

    #[test]
    fn the_sum_has_everything() {
        let configuration = Configuration::defaults(Mode::Run);
        let mut needed = MemoryDemand::of(&plan(&configuration)).unwrap();
        let empty = needed.sum().unwrap();
        assert!(empty > quick_queue(1).bytes() as u64 && needed.found > Some(1 << 20));
        needed.systems = vec![("a".to_owned(), 7), ("b".to_owned(), 8)];
        assert_eq!(needed.sum(), Some(empty + 15));
        needed.systems.push(("c".to_owned(), u64::MAX));
        assert_eq!(needed.sum(), None);
        let left = MemoryLeft { bytes: u64::MAX, by: "a test".to_owned() };
        let failure = needed.check(&left).unwrap_err();
        assert_eq!(failure.exit, Exit::Configuration);
        assert!(failure.message.contains("more than any machine has"), "{}", failure.message);
    }

    #[test]
    fn a_machine_of_512_mib_watches_itself_with_small_limits() {
        let mut configuration = Configuration::defaults(Mode::Run);
        let (_, small) = Limits::PRESETS[0];
        configuration.default.limits = small;
        let settings = configuration.default.clone();
        let name = "me".to_owned();
        let systems = [System { name, address: SystemAddress::Host, settings }];
        let plan = Plan {
            configuration: &configuration,
            systems: &systems,
            auto_scan: false,
            sboms: None,
        };
        let sum = MemoryDemand::of(&plan).unwrap().sum().unwrap();
        // A kernel and a small userland leave so much of 512 MiB.
        assert!(sum < 300 << 20, "{}", show(sum));
    }

    #[test]
    fn the_largest_limits_that_fit_are_named() {
        let configuration = Configuration::defaults(Mode::Run);
        let plan = plan(&configuration);
        let of = |bytes| {
            let left = MemoryLeft { bytes, by: "a test".to_owned() };
            MemoryDemand::fitting_preset(&plan, &left).map(|(name, needed)| {
                assert!(needed <= bytes, "{name} needs {}", show(needed));
                name
            })
        };
        assert_eq!((of(1 << 20), of(1 << 40)), (None, Some("default")));
        let sums = Limits::PRESETS.map(|(name, limits)| {
            let mut configuration = configuration.clone();
            configuration.default.limits = limits;
            let plan = Plan { configuration: &configuration, ..plan };
            (name, MemoryDemand::of(&plan).unwrap().sum().unwrap())
        });
        for (at, (name, sum)) in sums.into_iter().enumerate() {
            assert_eq!(of(sum), Some(name));
            assert_eq!(of(sum - 1), at.checked_sub(1).map(|at| sums[at].0), "{name}");
        }
    }

    #[test]
    fn every_scanner_that_runs_in_any_case_is_in_the_sum() {
        let mut configuration = Configuration::defaults(Mode::Run);
        let cores = ScannerCores::of(&configuration.service.cores).cores.len();
        let needed = MemoryDemand::of(&plan(&configuration)).unwrap();
        assert_eq!((needed.scanners, needed.further_scanners), (2, cores as u64 - 1));
        configuration.service.cores = Cores::Given(vec![0, 1, 2]);
        assert_eq!(MemoryDemand::of(&plan(&configuration)).unwrap().scanners, 4);
    }

    #[test]
    fn further_scanners_use_half_of_what_is_left() {
        let configuration = Configuration::defaults(Mode::Run);
        let needed = MemoryDemand::of(&plan(&configuration)).unwrap();
        let needed = MemoryDemand { further_scanners: 15, ..needed };
        let left = |bytes| MemoryLeft { bytes, by: "a test".to_owned() };
        let (sum, each) = (needed.sum().unwrap(), needed.scanner);
        assert_eq!(needed.further_that_fit(&left(sum + 6 * each)), 3);
        assert_eq!(needed.further_that_fit(&left(sum + 6 * each - 1)), 2);
        assert_eq!(needed.further_that_fit(&left(sum)), 0);
        assert_eq!(needed.further_that_fit(&left(0)), 0);
        assert_eq!(needed.further_that_fit(&left(u64::MAX)), 15);
    }

    #[test]
    fn what_others_are_about_to_use_is_not_left() {
        let settings = Configuration::defaults(Mode::Run).default;
        let address = SystemAddress::Qemu(7);
        let system = System { name: "a".to_owned(), address, settings };
        let promised = PromisedMemory::default();
        let left = |bytes| move || Some(MemoryLeft { bytes, by: "a test".to_owned() });
        let alone = check_system_with(&system, &promised, left(u64::MAX)).unwrap();
        let bytes = promised.bytes();
        assert!(bytes > 1 << 20);
        // The memory is enough for one of them.
        assert!(check_system_with(&system, &promised, left(2 * bytes - 1)).is_err());
        assert_eq!(promised.bytes(), bytes, "nothing is promised to what is refused");
        assert!(check_system_with(&system, &promised, left(2 * bytes)).is_ok());
        assert!(check_system_with(&system, &promised, || None).is_ok());
        drop(alone);
        assert_eq!(promised.bytes(), 0);
        let scanner = promised.add(10);
        assert!(check_system_with(&system, &promised, left(bytes + 9)).is_err());
        drop(scanner);
        assert!(check_system_with(&system, &promised, left(bytes + 9)).is_ok());
    }

    #[test]
    fn a_changed_configuration_may_need_as_much_more_as_is_left() {
        let old = Configuration::defaults(Mode::Run);
        let mut new = old.clone();
        (new.default.limits.processes, new.default.limits.threads) = (50_000, 100_000);
        let limits = old.default.limits;
        let growth =
            |found, scanners| Growth::between(&plan(&old), &plan(&new), found, (scanners, &limits));
        let Growth(Some(of_service)) = growth(0, 0) else { panic!("it is a number") };
        let Growth(Some(of_found)) = growth(3, 0) else { panic!("it is a number") };
        let Growth(Some(more)) = growth(3, 2) else { panic!("it is a number") };
        assert!(of_service < of_found && of_found < more, "{of_service} {of_found} {more}");
        let back = Growth::between(&plan(&new), &plan(&old), 3, (2, &new.default.limits));
        assert_eq!(back, Growth(Some(0)));
        let known = Growth::between(&plan(&old), &plan(&new), 3, (2, &new.default.limits));
        assert_eq!(known, growth(3, 0), "the scanners have that memory");
        let left = |bytes| MemoryLeft { bytes, by: "a test".to_owned() };
        let promised = PromisedMemory::default();
        assert_eq!(growth(3, 2).check(&left(more), &promised), Ok(()));
        let _other = promised.add(1);
        let failure = growth(3, 2).check(&left(more), &promised).unwrap_err();
        assert_eq!(failure.exit, Exit::Configuration);
        assert!(failure.message.contains(&show(more)), "{}", failure.message);
    }

    #[test]
    fn more_than_is_left_is_refused() {
        let configuration = Configuration::defaults(Mode::Run);
        let needed = MemoryDemand::of(&plan(&configuration)).unwrap();
        let sum = needed.sum().unwrap();
        let left = |bytes| MemoryLeft { bytes, by: "a test".to_owned() };
        assert_eq!(needed.check(&left(sum)), Ok(()));
        let failure = needed.check(&left(sum - 1)).unwrap_err();
        assert!(failure.message.contains(&show(sum)), "{}", failure.message);
        assert!(failure.message.contains("left (a test)"), "{}", failure.message);
    }

    #[test]
    fn cores_are_named_if_fewer_would_need_less() {
        let mut configuration = Configuration::defaults(Mode::Run);
        let little = MemoryLeft { bytes: 1, by: "a test".to_owned() };
        let message = |configuration: &Configuration| {
            let needed = MemoryDemand::of(&plan(configuration)).unwrap();
            needed.check_in_all(&little).unwrap_err().message
        };
        let end = "lower `limits`, watch fewer systems, or add memory";
        let text = message(&configuration);
        assert!(
            text.ends_with(&format!("this machine has 0.0 MiB in all (a test); {end}")),
            "{text}"
        );
        configuration.service.cores = Cores::Given(vec![0, 1, 2]);
        let text = message(&configuration);
        assert!(text.ends_with(&format!("(a test); use fewer `service.cores`, {end}")), "{text}");
    }

    #[test]
    fn what_is_left_is_the_least() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let under = |key| MemoryLeft::under(root.path(), key);
        assert_eq!(under("MemAvailable"), None);
        write("proc/meminfo", "MemTotal: 99 kB\nMemAvailable:    50 kB\n");
        let left = || under("MemAvailable").unwrap().bytes;
        assert_eq!(under("MemTotal").unwrap().bytes, 99 * 1024);
        assert_eq!(left(), 50 * 1024);
        write("proc/self/cgroup", "1:cpu:/x\n0::/system.slice/panoptes.service\n");
        write("sys/fs/cgroup/system.slice/panoptes.service/memory.max", "max\n");
        assert_eq!(left(), 50 * 1024);
        write("sys/fs/cgroup/system.slice/memory.max", "40960\n");
        assert_eq!(left(), 40960);
        write("sys/fs/cgroup/system.slice/memory.current", "960\n");
        assert_eq!(left(), 40000);
        let stat = "anon 700\ninactive_anon 1\ninactive_file 100\nactive_file 160\n";
        write("sys/fs/cgroup/system.slice/memory.stat", stat);
        assert_eq!((left(), under("MemTotal").unwrap().bytes), (40260, 40960));
    }
}
