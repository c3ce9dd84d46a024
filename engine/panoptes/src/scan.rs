//! `panoptes scan`: prints one snapshot of a system.

mod alerts;
mod damage;
mod integrity;
mod running;

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use panoptes_engine::detect::shell_history::{HistoryCommand, remembered};
use panoptes_engine::limits::Limits;
use panoptes_engine::loss::{FREQUENT_STOPS_MAX, FrequentStop};
use panoptes_engine::page_cache::Contents;
use panoptes_engine::policy::lines::{Kinds, LineCounts, LineWriter, ScanKind, Traits};
use panoptes_engine::state::facts::{HeapRule, executable_of};
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Kernel, Losses, Scope, Snapshot, Walker};
use panoptes_engine::watch::SLICE_BYTES;
use panoptes_profiles::Profile;
use panoptes_sinks::output::file::LogFiles;
use panoptes_sources::{AnySource, Detail, MeterCounts, SourceMeter};
use serde_json::{Value, json};

pub use self::running::build_running;

use self::alerts::Detection;
use self::damage::Damage;
use self::integrity::{Integrity, check};
use crate::attach::{attach_once, warn_losses};
use crate::config::UserMemory;
use crate::exit::{Exit, Failure, print, printed};
use crate::message::Messages;
use crate::request::{ScanOutputKind, ScanRequest};
use crate::sbom::Sboms;
use crate::watched::kind_of_copy;

/// How often a live machine is scanned until a scan is consistent.
const SCAN_ATTEMPTS_MAX: u32 = 8;

/// Scans once and prints lines, alerts, or counts and times.
pub fn scan(request: &ScanRequest, messages: &Messages) -> Result<Exit, Failure> {
    if request.printed == ScanOutputKind::Alerts {
        return alerts::print_alerts(request, messages);
    }
    let begin = Instant::now();
    let is_summary = request.printed == ScanOutputKind::Summary;
    let sboms = if is_summary { alerts::sboms(request)? } else { Sboms::default() };
    let (name, kinds) = (&request.system.name, request.kinds);
    let mut log =
        request.configuration.output.log_folder.as_deref().map(ScanLog::create).transpose()?;
    let (source, profile) = attach_to(request, begin, messages)?;
    let kernel = kernel_of(&profile);
    let mut times = ScanTimings { discovered: begin.elapsed(), ..ScanTimings::default() };

    let limits = request.system.settings.limits;
    let mut walker = walker_of(&limits, kinds);
    walker.set_copied(kind_of_copy(&source));
    let mut lines = LineWriter::new(&limits);
    lines.set_redactor(request.configuration.output.redactor());
    let user_memory = request.system.settings.user_memory;
    let scope = scope(kinds, user_memory);
    times.prepared = begin.elapsed().saturating_sub(times.discovered);
    let mut source = SourceMeter::new(source, Detail::Batches)?;
    let (attempts, walked) = look(&mut walker, &mut source, &kernel, scope, name)?;
    times.walked = walked;
    let reads = source.counts();
    let hashing = Instant::now();
    let wanted = (kinds, user_memory, scope);
    let further = read_further(&mut walker, &mut source, &kernel, wanted, &limits);
    let Further { contents, commands, unread, code } = further;
    times.hashed = hashing.elapsed();
    let snapshot = walker.snapshot();
    let extras = Extras { contents: contents.as_ref(), commands: &commands };
    let printing = Instant::now();
    let shown: Box<dyn Write> = if is_summary {
        Box::new(io::sink())
    } else {
        Box::new(BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock()))
    };
    let counts = {
        let mut out = ScanOutput { shown, log: log.as_mut() };
        let written = print_lines(&mut lines, snapshot, extras, kinds, &kernel, &mut out);
        let seen = (snapshot, &kernel);
        let mut print = |it: &Integrity| it.print(&mut lines, seen, &mut source, &mut out);
        let checked =
            written.and_then(|counts| code.as_ref().map_or(Ok(()), &mut print).map(|()| counts));
        checked.and_then(|counts| out.flush().map(|()| counts))
    };
    log.map_or(Ok(()), ScanLog::end)?;
    let Some(counts) = printed(counts)? else { return Ok(Exit::Done) };
    times.printed = printing.elapsed();
    let (damage, losses) = (Damage::of(snapshot, scope).with_lines(&counts), snapshot.losses);
    if is_summary {
        let population = population(snapshot);
        let stops = early_stops(&losses, &counts, contents.as_ref());
        let walk = Walk { population, losses, stops, times, attempts, lines: counts, reads };
        // The detectors need as much memory as the scan.
        drop(walker);
        print_summary(request, (source.source_mut(), &profile), &sboms, walk)?;
    }
    warn_losses(source.source_mut(), &request.system, messages);
    if unread > 0 {
        messages.warning(format_args!(
            "{name}: {unread} shell commands are not in memory and were left out"
        ));
    }
    Ok(verdict(&losses, &damage, request, messages))
}

/// Data that is read behind the snapshot.
struct Further {
    contents: Option<Contents>,
    commands: Vec<HistoryCommand>,
    /// Number of commands that are not in memory.
    unread: u64,
    code: Option<Integrity>,
}

/// Reads what the kinds need beside the snapshot.
fn read_further(
    walker: &mut Walker,
    source: &mut SourceMeter<AnySource>,
    kernel: &Kernel,
    (kinds, user_memory, scope): (Kinds, UserMemory, Scope),
    limits: &Limits,
) -> Further {
    let snapshot = walker.snapshot();
    let has_files = kinds.contains(ScanKind::Processes);
    let contents = has_files.then(|| hash(snapshot, limits, source, kernel));
    let has_history = kinds.contains(ScanKind::ShellHistory) && user_memory.shell_history;
    let length = limits.string_length as usize;
    let history = has_history.then(|| remembered(source, kernel, snapshot, length));
    let (commands, unread) = history.unwrap_or_default();
    let copied = kind_of_copy(source.source_mut());
    let is_checked = kinds.contains(ScanKind::Integrity);
    let code = is_checked.then(|| check(walker, source, kernel, (scope, copied)));
    Further { contents, commands, unread, code }
}

/// Runs the detectors, and prints what they and the walk have shown.
fn print_summary(
    request: &ScanRequest,
    (source, profile): (&mut AnySource, &Profile),
    sboms: &Sboms,
    mut walk: Walk,
) -> Result<(), Failure> {
    let begin = Instant::now();
    let detected = alerts::check(request, (source, profile), sboms)?;
    walk.times.detected = begin.elapsed();
    let summary = Summary { profile, walk, detected };
    let text = if request.json { summary.json() } else { summary.text() };
    print(text.as_bytes()).map(drop)
}

/// The file of `output.log_folder` with the lines of the last scan.
struct ScanLog {
    path: PathBuf,
    file: BufWriter<File>,
    /// Why the file has not all lines.
    error: Option<io::Error>,
}

const LOG_NAME: &str = "scan.jsonl";
const OUTPUT_BUFFER_BYTES: usize = 1 << 16;

impl ScanLog {
    fn create(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(LOG_NAME);
        let opened = LogFiles::new(&path, 0).open().and_then(|file| file.set_len(0).map(|()| file));
        match opened {
            Ok(file) => {
                let file = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, file);
                Ok(Self { path, file, error: None })
            }
            Err(error) => Err(Failure::not_written(&path, &error)),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            self.error = self.file.write_all(bytes).err();
        }
    }

    fn end(mut self) -> Result<(), Failure> {
        let error = self.error.or_else(|| self.file.flush().err());
        error.map_or(Ok(()), |error| Err(Failure::not_written(&self.path, &error)))
    }
}

/// Where lines go: standard output or nothing, and the log if there is one.
struct ScanOutput<'a> {
    shown: Box<dyn Write>,
    log: Option<&'a mut ScanLog>,
}

impl Write for ScanOutput<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(log) = &mut self.log {
            log.write(bytes);
        }
        match self.shown.write_all(bytes) {
            // The log has all lines, whether somebody reads the others or not.
            Err(error) if error.kind() == ErrorKind::BrokenPipe && self.log.is_some() => {
                self.shown = Box::new(io::sink());
                Ok(bytes.len())
            }
            written => written.map(|()| bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shown.flush()
    }
}

/// Attaches to the system to scan; `begin` is the start of the program's work.
fn attach_to(
    request: &ScanRequest,
    begin: Instant,
    messages: &Messages,
) -> Result<(AnySource, Profile), Failure> {
    let ScanRequest { system, configuration, .. } = request;
    let (source, profile) = attach_once(system, configuration, messages)?;
    messages.info(format_args!(
        "{}: Linux {} found and verified by the {} in {:.0} ms",
        system.name,
        profile.release,
        profile.origin,
        begin.elapsed().as_secs_f64() * 1e3
    ));
    Ok((source, profile))
}

/// Hashes the executables of processes, as far as they are in memory.
fn hash(
    snapshot: &Snapshot,
    limits: &Limits,
    source: &mut SourceMeter<AnySource>,
    kernel: &Kernel,
) -> Contents {
    let mut contents = Contents::new(limits, crate::random::hash_key());
    for process in snapshot.processes.iter() {
        if let Some(file) = executable_of(snapshot, process) {
            contents.ask(&file);
        }
    }
    while contents.has_work() {
        contents.work(source, kernel, SLICE_BYTES, &());
    }
    contents
}

/// A walker that has room for all that these kinds need.
fn walker_of(limits: &Limits, kinds: Kinds) -> Walker {
    let walker = Walker::new(limits, crate::random::hash_key());
    if kinds.contains(ScanKind::Modules) { walker.with_sections() } else { walker }
}

/// Walks until a snapshot is consistent. If a machine changes too fast, the last one is used.
fn look(
    walker: &mut Walker,
    source: &mut SourceMeter<AnySource>,
    kernel: &Kernel,
    scope: Scope,
    name: &str,
) -> Result<(u32, Duration), Failure> {
    let mut attempt = 1;
    loop {
        source.reset();
        let begin = Instant::now();
        walker.forget();
        let scanned = walker.scan(source, kernel, scope);
        let walked = begin.elapsed();
        let clean = match scanned {
            Ok(snapshot) => is_whole(snapshot, scope),
            Err(error) if attempt == SCAN_ATTEMPTS_MAX => {
                return Err(Failure::new(Exit::NoKernel, format!("{name}: {error}")));
            }
            Err(_) => false,
        };
        if clean || attempt == SCAN_ATTEMPTS_MAX {
            return Ok((attempt, walked));
        }
        attempt += 1;
    }
}

/// Whether a snapshot is complete and consistent.
fn is_whole(snapshot: &Snapshot, scope: Scope) -> bool {
    Damage::of(snapshot, scope).is_none()
}

fn print_lines(
    lines: &mut LineWriter,
    snapshot: &Snapshot,
    extras: Extras<'_>,
    kinds: Kinds,
    kernel: &Kernel,
    out: &mut dyn Write,
) -> io::Result<LineCounts> {
    let heap = if kernel.heap_may_touch() { HeapRule::Touches } else { HeapRule::Overlaps };
    let Extras { contents, commands } = extras;
    let traits = Traits { heap, gate_area: snapshot.machine.gate, contents, commands };
    lines.write(snapshot, kinds, &traits, &mut |line| out.write_all(line))
}

/// Data for the lines that is not in the snapshot.
#[derive(Clone, Copy)]
struct Extras<'a> {
    contents: Option<&'a Contents>,
    commands: &'a [HistoryCommand],
}

/// Writes messages about missing data, and returns the exit code. A copy of a running machine is
/// torn nearly always, so damage is a failure only if the user asks for that.
fn verdict(losses: &Losses, damage: &Damage, request: &ScanRequest, messages: &Messages) -> Exit {
    let name = &request.system.name;
    if losses.not_resident > 0 {
        messages.info(format_args!(
            "{name}: {} command lines are not in memory and were left out",
            losses.not_resident
        ));
    }
    if losses.dropped > 0 {
        messages.warning(format_args!(
            "{name}: {} objects did not fit within the limits; raise them with --limits",
            losses.dropped
        ));
    }
    if damage.is_none() {
        return Exit::Done;
    }
    let text = damage.text();
    if request.strict {
        messages.error(format_args!("{name}: {text}"));
        return Exit::Failed;
    }
    messages.warning(format_args!("{name}: {text}; all else was read"));
    Exit::Done
}

/// What must be read for the kinds that are printed: a connection's holders are found through
/// descriptors, as those of objects of eBPF, and its interface through the interfaces.
fn scope(kinds: Kinds, user_memory: UserMemory) -> Scope {
    let connections = kinds.contains(ScanKind::Connections);
    let module_details = kinds.contains(ScanKind::Modules);
    let modules = module_details || kinds.contains(ScanKind::Integrity);
    let bpf = kinds.contains(ScanKind::Bpf);
    Scope {
        files: kinds.contains(ScanKind::Files) || connections || bpf,
        // Shells are identified by the files that they have mapped.
        memory: kinds.contains(ScanKind::Memory) || kinds.contains(ScanKind::ShellHistory),
        connections,
        interfaces: kinds.contains(ScanKind::Interfaces) || connections,
        command_lines: user_memory.command_lines,
        udp_ports: false,
        modules,
        module_details,
        bpf,
    }
}

/// The number of objects of each kind, and the kind's name.
type Population = [(&'static str, usize); 9];

fn population(snapshot: &Snapshot) -> Population {
    let bpf = &snapshot.bpf;
    [
        ("processes", snapshot.processes.len()),
        ("threads", snapshot.by_tid.len()),
        ("file_descriptors", snapshot.descriptors.len()),
        ("memory_areas", snapshot.vmas.len()),
        ("connections", snapshot.connections.len()),
        ("kernel_modules", snapshot.modules.rows.len()),
        ("ebpf_objects", bpf.programs.len() + bpf.maps.len() + bpf.links.len()),
        ("interfaces", snapshot.interfaces.len()),
        ("containers", snapshot.containers.iter().filter(|row| row.is_alive()).count()),
    ]
}

#[derive(Clone, Copy, Debug, Default)]
struct ScanTimings {
    discovered: Duration,
    prepared: Duration,
    walked: Duration,
    hashed: Duration,
    printed: Duration,
    detected: Duration,
}

/// The most frequent reasons to stop early: of the walk, of paths in lines, and of files that were
/// hashed.
fn early_stops(
    losses: &Losses,
    lines: &LineCounts,
    contents: Option<&Contents>,
) -> ArrayVec<FrequentStop, FREQUENT_STOPS_MAX> {
    let of_contents = contents.map(Contents::frequent_stops).unwrap_or_default();
    let all = losses.frequent_stops().into_iter().chain(lines.frequent_stops()).chain(of_contents);
    FrequentStop::most_frequent(all)
}

/// What one walk has shown.
struct Walk {
    population: Population,
    losses: Losses,
    stops: ArrayVec<FrequentStop, FREQUENT_STOPS_MAX>,
    times: ScanTimings,
    attempts: u32,
    lines: LineCounts,
    reads: MeterCounts,
}

/// The data that `--summary` prints.
struct Summary<'a> {
    profile: &'a Profile,
    walk: Walk,
    detected: Detection,
}

impl Summary<'_> {
    fn stages(&self) -> [(&'static str, Duration); 6] {
        [
            ("find_kernel", self.walk.times.discovered),
            ("allocate", self.walk.times.prepared),
            ("scan", self.walk.times.walked),
            ("hash_executables", self.walk.times.hashed),
            ("write_lines", self.walk.times.printed),
            ("run_detectors", self.walk.times.detected),
        ]
    }

    fn losses(&self) -> [(&'static str, u64); 5] {
        let losses = &self.walk.losses;
        [
            ("undecoded", u64::from(losses.unreadable) + self.walk.lines.too_long),
            ("unnamed", self.walk.lines.unnamed),
            ("unbounded_lists", u64::from(losses.unbounded)),
            ("dropped", u64::from(losses.dropped)),
            ("not_resident", u64::from(losses.not_resident)),
        ]
    }

    /// The number of alerts, and what was not checked for them.
    fn alerts(&self) -> String {
        use std::fmt::Write as _;
        let counts = self.detected.counts();
        let mut text = match counts.values().sum::<u64>() {
            0 => "no alerts".to_owned(),
            1 => "1 alert (`--alerts` prints it)".to_owned(),
            count => format!("{count} alerts (`--alerts` prints them)"),
        };
        text.push('\n');
        for (name, count) in counts {
            let _ = writeln!(text, "{name:40}{count:>10}");
        }
        for what in self.detected.not_checked() {
            let _ = writeln!(text, "not checked: {what}");
        }
        text.push('\n');
        text
    }

    fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = self.alerts();
        let _ = writeln!(
            text,
            "Linux {}, layouts from the {}\n",
            self.profile.release, self.profile.origin
        );
        for (name, count) in self.walk.population {
            let _ = writeln!(text, "{:18}{count:>10}", name.replace('_', " "));
        }
        text.push('\n');
        for (name, time) in self.stages() {
            let milliseconds = time.as_secs_f64() * 1e3;
            let _ = writeln!(text, "{:18}{milliseconds:>10.3} ms", name.replace('_', " "));
        }
        let _ = writeln!(
            text,
            "\n{} batches of {} reads, scan {} of at most {SCAN_ATTEMPTS_MAX}",
            self.walk.reads.batches, self.walk.reads.requests, self.walk.attempts
        );
        for (name, count) in self.losses().into_iter().filter(|&(_, count)| count > 0) {
            let _ = writeln!(text, "{:18}{count:>10}", name.replace('_', " "));
        }
        for stop in &self.walk.stops {
            let _ = writeln!(text, "{:18}{:>10} {stop}", "stopped early", stop.count);
        }
        text
    }

    fn json(&self) -> String {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut summary = json!({
            "alerts": self.detected.counts(),
            "not_checked": self.detected.not_checked(),
            "os_release": self.profile.release,
            "profile_origin": self.profile.origin.to_string(),
            "counts": Value::from_iter(self.walk.population),
            "stages_ns": Value::from_iter(self.stages().map(|(name, time)| (name, ns(time)))),
            "losses": Value::from_iter(self.losses()),
            "batches": self.walk.reads.batches,
            "reads": self.walk.reads.requests,
            "attempts": self.walk.attempts,
        });
        if !self.walk.stops.is_empty() {
            let object =
                |stop: &FrequentStop| json!({ "count": stop.count, "reason": stop.to_string() });
            summary["early_stops"] = self.walk.stops.iter().map(object).collect();
        }
        format!("{summary}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_the_lines_of_the_last_scan() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("new");
        for text in ["a first scan\n", "a scan\n"] {
            let mut log = ScanLog::create(&logs).unwrap();
            let mut out = ScanOutput { shown: Box::new(io::sink()), log: Some(&mut log) };
            out.write_all(text.as_bytes()).unwrap();
            out.flush().unwrap();
            drop(out);
            log.end().unwrap();
        }
        assert_eq!(std::fs::read(logs.join(LOG_NAME)).unwrap(), b"a scan\n");
    }

    #[test]
    fn the_log_has_all_lines_although_nobody_reads_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = ScanLog::create(folder.path()).unwrap();
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut out = ScanOutput { shown: Box::new(writer), log: Some(&mut log) };
        for line in ["a\n", "b\n"] {
            out.write_all(line.as_bytes()).unwrap();
        }
        out.flush().unwrap();
        drop(out);
        log.end().unwrap();
        assert_eq!(std::fs::read(folder.path().join(LOG_NAME)).unwrap(), b"a\nb\n");
        let mut out = ScanOutput { shown: Box::new(io::pipe().unwrap().1), log: None };
        assert_eq!(out.write_all(b"a\n").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_a_failure_and_costs_no_line_of_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOG_NAME);
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let file = BufWriter::new(File::options().write(true).open(&path).unwrap());
        let mut log = ScanLog { path, file, error: None };
        let (mut reader, writer) = io::pipe().unwrap();
        let mut out = ScanOutput { shown: Box::new(writer), log: Some(&mut log) };
        for _ in 0..3 {
            out.write_all(&[b'x'; 10_000]).unwrap();
        }
        drop(out);
        let mut shown = Vec::new();
        io::Read::read_to_end(&mut reader, &mut shown).unwrap();
        assert_eq!(shown.len(), 30_000);
        let failure = log.end().unwrap_err();
        assert_eq!(failure.exit, Exit::Output);
        assert!(failure.message.contains("No space left on device"), "{failure}");
    }
}
