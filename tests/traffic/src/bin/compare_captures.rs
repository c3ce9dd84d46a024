//! Reads every capture below a folder with `panoptes flow` and, where they are installed, with
//! argus and tshark, and prints the differences by kind:
//! `compare_captures PANOPTES FOLDER [--all]`.
//!
//! A difference is no fault by itself: `docs/flow.md` lists those that are meant. The exit code is
//! 1 if Panoptes fails, or if no file is a capture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use panoptes_bounded as bounded;
use panoptes_needs::check;
use panoptes_traffic::{Argus, Row, Tolerance, differences};

/// How long one program may take for one capture.
const TIME_MAX: Duration = Duration::from_mins(5);
/// Examples of each kind that are printed.
const EXAMPLES_MAX: usize = 3;
/// The exit code of `panoptes flow` for something that is no capture, or is damaged.
const NO_CAPTURE: i32 = 65;

/// What was found in all captures.
#[derive(Debug, Default)]
struct Findings {
    /// Differences by field and sensor, with an example of each.
    kinds: BTreeMap<String, Vec<String>>,
    captures: usize,
    others: usize,
    same: usize,
    failures: Vec<String>,
    prints_all: bool,
}

impl Findings {
    fn add(&mut self, kind: String, example: String) {
        self.kinds.entry(kind).or_default().push(example);
    }

    fn print(&self) {
        for (kind, examples) in &self.kinds {
            println!("{:>7}  {kind}", examples.len());
            let most = if self.prints_all { usize::MAX } else { EXAMPLES_MAX };
            for example in examples.iter().take(most) {
                println!("         {example}");
            }
        }
        for failure in &self.failures {
            println!("FAILED   {failure}");
        }
        println!(
            "{} captures, {} without a difference; {} others are none or damaged; {} failures",
            self.captures,
            self.same,
            self.others,
            self.failures.len()
        );
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(program), Some(folder)) = (arguments.next(), arguments.next()) else {
        eprintln!("compare_captures: give the program panoptes, and a folder of captures");
        return ExitCode::from(2);
    };
    let prints_all = arguments.next().is_some_and(|argument| argument == "--all");
    match run(Path::new(&program), Path::new(&folder), prints_all) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare_captures: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(program: &Path, folder: &Path, prints_all: bool) -> Result<bool, String> {
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    let (argus, tshark) = (Argus::find(), check::on_path("tshark"));
    if let Err(missing) = &argus {
        println!("without argus: {missing}");
    }
    if tshark.is_none() {
        println!("without tshark: it is not installed");
    }
    let records = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut findings = Findings { prints_all, ..Findings::default() };
    for (number, path) in paths.iter().enumerate() {
        eprint!("\r{} of {} files ", number + 1, paths.len());
        let capture = Capture { program, path, folder: records.path() };
        match capture.compare(argus.as_ref().ok(), tshark.as_deref(), &mut findings) {
            Ok(()) => {}
            Err(failure) => findings.failures.push(format!("{}: {failure}", path.display())),
        }
    }
    eprintln!();
    findings.print();
    if findings.captures == 0 {
        return Err(format!("no file below {} is a capture", folder.display()));
    }
    Ok(findings.failures.is_empty())
}

/// The files below a folder, by name.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut found = Vec::new();
    for entry in entries {
        found.push(entry.map_err(failed)?.path());
    }
    found.sort();
    for path in found {
        if path.is_dir() && !path.is_symlink() {
            collect(&path, paths)?;
        } else if path.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}

/// One capture, and where its records go.
struct Capture<'a> {
    program: &'a Path,
    path: &'a Path,
    folder: &'a Path,
}

/// Both ends and the protocol, as tshark and Panoptes print them; the lesser end comes first.
type Conversation = (String, String, String);
/// Packets by conversation, and why some are missing.
type Counted = (BTreeMap<Conversation, u64>, Option<String>);

impl Capture<'_> {
    fn compare(
        &self,
        argus: Option<&Argus>,
        tshark: Option<&Path>,
        findings: &mut Findings,
    ) -> Result<(), String> {
        let (own, lines) = (self.folder.join("own"), self.folder.join("lines"));
        if !self.audit(&own, &lines)? {
            findings.others += 1;
            return Ok(());
        }
        findings.captures += 1;
        let before = findings.kinds.values().map(Vec::len).sum::<usize>();
        if let Some(argus) = argus {
            self.compare_with_argus(argus, &own, findings)?;
        }
        if let Some(tshark) = tshark {
            self.compare_with_tshark(tshark, &lines, findings)?;
        }
        let after = findings.kinds.values().map(Vec::len).sum::<usize>();
        findings.same += usize::from(before == after);
        Ok(())
    }

    /// Runs Panoptes; whether this is a capture.
    fn audit(&self, own: &Path, lines: &Path) -> Result<bool, String> {
        for file in [own, lines] {
            // An existing file would be continued.
            let _ = std::fs::remove_file(file);
        }
        let mut command = Command::new(self.program);
        command.args(["flow", "-X", "-A", "-S", "3600", "--application", "all", "-r"]);
        command.arg(self.path).arg("-w").arg(own).arg("-w");
        command.arg(format!("json:{}", lines.display()));
        let output = bounded::output_within(&mut command, TIME_MAX)
            .map_err(|error| format!("panoptes: {error}"))?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(NO_CAPTURE) => Ok(false),
            _ => Err(format!(
                "panoptes ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn compare_with_argus(
        &self,
        argus: &Argus,
        own: &Path,
        findings: &mut Findings,
    ) -> Result<(), String> {
        let theirs = self.folder.join("argus");
        if let Err(error) = argus.argus(self.path, &["-A", "-S", "3600"], &theirs) {
            findings.add("argus fails".to_owned(), format!("{}: {error}", self.name()));
            return Ok(());
        }
        let [theirs, own] = [theirs.as_path(), own].map(|records| argus.ra(records));
        let (theirs, own): (Vec<Row>, Vec<Row>) = (theirs?, own?);
        for difference in differences(&theirs, &own, Tolerance::default(), &[]) {
            let kind = match &difference.field[..] {
                "record" if difference.left == "missing" => "argus has no such record".to_owned(),
                "record" => "only argus has such a record".to_owned(),
                field => format!("argus differs in {field}"),
            };
            findings.add(kind, format!("{}: {difference}", self.name()));
        }
        Ok(())
    }

    /// Compares the numbers of packets of each conversation of TCP and UDP.
    fn compare_with_tshark(
        &self,
        tshark: &Path,
        lines: &Path,
        findings: &mut Findings,
    ) -> Result<(), String> {
        let (theirs, error) = self.of_tshark(tshark)?;
        if let Some(error) = error {
            findings.add("tshark fails".to_owned(), format!("{}: {error}", self.name()));
        }
        let own = of_lines(lines)?;
        for (conversation, packets) in &theirs {
            let found = own.get(conversation).copied().unwrap_or(0);
            if found != *packets {
                let (protocol, one, other) = conversation;
                let example =
                    format!("{}: {protocol} {one} {other}: {packets} and {found}", self.name());
                findings.add("tshark counts other packets".to_owned(), example);
            }
        }
        Ok(())
    }

    /// The packets of each conversation, and why there are not all: a capture may be cut off.
    fn of_tshark(&self, tshark: &Path) -> Result<Counted, String> {
        let mut command = Command::new(tshark);
        command.args(["-n", "-T", "fields", "-E", "separator=/t", "-E", "occurrence=l", "-r"]);
        command.arg(self.path);
        for field in [
            "ip.src",
            "ip.dst",
            "ipv6.src",
            "ipv6.dst",
            "tcp.srcport",
            "tcp.dstport",
            "udp.srcport",
            "udp.dstport",
        ] {
            command.args(["-e", field]);
        }
        let output = bounded::output_within(&mut command, TIME_MAX)
            .map_err(|error| format!("tshark: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut all = BTreeMap::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let &[v4, v4_to, v6, v6_to, tcp, tcp_to, udp, udp_to] = &fields[..] else {
                continue;
            };
            let (from, to) = if v6.is_empty() { (v4, v4_to) } else { (v6, v6_to) };
            let (protocol, ports) = match (tcp.is_empty(), udp.is_empty()) {
                (false, _) => ("tcp", (tcp, tcp_to)),
                (true, false) => ("udp", (udp, udp_to)),
                (true, true) => continue,
            };
            *all.entry(conversation(protocol, (from, ports.0), (to, ports.1))).or_default() += 1;
        }
        let messages = String::from_utf8_lossy(&output.stderr);
        let last = messages.lines().last().unwrap_or("no message");
        let error = (!output.status.success()).then(|| format!("{}: {last}", output.status));
        Ok((all, error))
    }
}

fn conversation(protocol: &str, one: (&str, &str), other: (&str, &str)) -> Conversation {
    let text = |(address, port): (&str, &str)| format!("{address} {port}");
    let (one, other) = (text(one), text(other));
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    (protocol.to_owned(), first, second)
}

/// The packets of each conversation of TCP and UDP in JSON lines.
fn of_lines(path: &Path) -> Result<BTreeMap<Conversation, u64>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let word = |key: &str| value(line, key);
        let (Some(protocol @ ("tcp" | "udp")), Some(source), Some(destination)) =
            (word("protocol"), word("source_address"), word("destination_address"))
        else {
            continue;
        };
        let ends = [
            (source, word("source_port").unwrap_or_default()),
            (destination, word("destination_port").unwrap_or_default()),
        ];
        let packets = ["source_packets", "destination_packets"]
            .map(|key| word(key).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0));
        *all.entry(conversation(protocol, ends[0], ends[1])).or_default() +=
            packets.iter().sum::<u64>();
    }
    Ok(all)
}

/// The value of a key that is not in an object of its own. No such text has an escape.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let begin = line.find(&format!("\"{key}\":"))? + key.len() + 3;
    let rest = line.get(begin..)?;
    let (rest, ends): (&str, &[char]) = match rest.strip_prefix('"') {
        Some(rest) => (rest, &['"']),
        None => (rest, &[',', '}']),
    };
    rest.split(ends).next()
}
