//! Dumps with pages of zeros, or without an end: what the tool that made them could not read.
//!
//! Facts about such a dump are printed right, or left out. Nothing in it is hidden.
//!
//! The machine is the recorded one. With `PANOPTES_IMAGES`, each `*.raw` in that folder is tried,
//! too, with more damage.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

mod recorded;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use panoptes_bounded as bounded;
use serde_json::Value;
use tempfile::TempDir;

use recorded::write_machine;

const PAGE_BYTES: usize = 4096;
/// The damage of the recorded machine, which has some thousand pages that are read.
const RECORDED: Damage = Damage { dumps: 12, lost: 40, cuts: 15 };
/// The damage of an image.
const IMAGE: Damage = Damage { dumps: 200, lost: 1000, cuts: 200 };

/// How a dump is damaged, again and again.
struct Damage {
    /// Dumps with lost pages, and the pages of each that are lost.
    dumps: u64,
    lost: usize,
    /// Lengths at which the dump is cut.
    cuts: u64,
}

/// A dump, and what the program prints of it as a whole.
struct Dump {
    _folder: TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    /// Lines by their keys. Two tables of descriptors of one process may share a key.
    lines: BTreeMap<String, Vec<Value>>,
}

impl Dump {
    fn recorded() -> Option<Self> {
        Self::new(|path| write_machine(&[path.to_owned()]))
    }

    /// A dump that `write` writes, if it can.
    fn new(write: impl FnOnce(&Path) -> bool) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.raw");
        if !write(&path) {
            return None;
        }
        let mut lines = BTreeMap::<_, Vec<_>>::new();
        for (key, line) in lines_of(&scan(&path, &[])) {
            lines.entry(key).or_default().push(line);
        }
        let bytes = fs::read(&path).unwrap();
        Some(Self { _folder: folder, path, bytes, lines })
    }

    /// Frames of the pages that are not zeros.
    fn frames(&self) -> Vec<usize> {
        let pages = self.bytes.chunks(PAGE_BYTES).enumerate();
        pages.filter(|(_, page)| page.iter().any(|&byte| byte != 0)).map(|(at, _)| at).collect()
    }

    /// Sets pages to zeros, or to what they were.
    fn put(&self, frames: &[usize], is_lost: bool) {
        let file = File::options().write(true).open(&self.path).unwrap();
        for &frame in frames {
            let at = frame * PAGE_BYTES;
            let page = if is_lost { &[0; PAGE_BYTES] } else { &self.bytes[at..at + PAGE_BYTES] };
            file.write_all_at(page, at as u64).unwrap();
        }
    }

    /// Scans the dump as it is now. Returns whether it has a kernel, and what is wrong.
    fn mistakes(&self) -> (bool, Vec<String>) {
        let output = scan(&self.path, &[]);
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() == Some(65) {
            return (false, Vec::new());
        }
        assert_eq!(output.status.code(), Some(0), "{messages}");
        let mut wrong = Vec::new();
        for (key, line) in lines_of(&output) {
            // Without its process, a connection has another key.
            let Some(candidates) = self.lines.get(&key) else {
                wrong.extend((line["kind"] != "connection").then_some(key));
                continue;
            };
            let least =
                candidates.iter().map(|whole| differences(&line, whole)).min_by_key(Vec::len);
            wrong.extend(
                least.into_iter().flatten().map(|difference| format!("{key}: {difference}")),
            );
        }
        let alerts = scan(&self.path, &["--alerts"]);
        assert_eq!(alerts.status.code(), Some(0), "{}", String::from_utf8_lossy(&alerts.stderr));
        wrong.extend(String::from_utf8_lossy(&alerts.stdout).lines().map(str::to_owned));
        (true, wrong)
    }
}

/// What a line has that is not in the line of the whole dump. A line that states that something in
/// it is truncated may have the beginning of a text.
fn differences(line: &Value, whole: &Value) -> Vec<String> {
    let is_cut = line["truncated"] == true;
    let is_same = |field: &str, value: &Value| {
        if field == "truncated" {
            return is_cut;
        }
        let whole = whole.get(field);
        whole.is_some_and(|whole| value == whole || is_cut && is_begin(value, whole))
    };
    let fields = line.as_object().unwrap().iter();
    let wrong = fields.filter(|(field, value)| !field.contains("hash") && !is_same(field, value));
    wrong.map(|(field, value)| format!("{field} is {value}, not {:?}", whole.get(field))).collect()
}

/// Whether a value is the beginning of another: of a text, or of a list of texts.
fn is_begin(value: &Value, whole: &Value) -> bool {
    match (value, whole) {
        (Value::String(value), Value::String(whole)) => whole.starts_with(value.as_str()),
        (Value::Array(value), Value::Array(whole)) => {
            let is_begin = |(value, whole)| is_begin(value, whole);
            value.len() <= whole.len() && value.iter().zip(whole).all(is_begin)
        }
        (value, whole) => value == whole,
    }
}

fn scan(path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_panoptes"));
    bounded::output(command.arg("scan").arg(path).args(arguments)).unwrap()
}

/// Returns each printed line, with a key of what it is about.
fn lines_of(output: &Output) -> Vec<(String, Value)> {
    const KEYS: [&str; 10] = [
        "kind",
        "process_id",
        "thread_id",
        "file_descriptor_index",
        "virtual_memory_area_start_address",
        "source_port",
        "destination_port",
        "file_descriptor_id",
        "container_cgroup_path",
        "network_namespace",
    ];
    let text = str::from_utf8(&output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let key = |line: &Value| {
        let mut key: Vec<String> = KEYS.iter().map(|key| line[*key].to_string()).collect();
        if line["kind"] == "interface" {
            key.push(line["workload_network_interface_name"].to_string());
        }
        key.join(" ")
    };
    lines.map(|line| (key(&line), line)).collect()
}

/// Some of the frames, the same for each seed (xorshift64, Marsaglia).
fn some(frames: &[usize], count: usize, seed: u64) -> Vec<usize> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        frames[state as usize % frames.len()]
    })
    .take(count)
    .collect()
}

/// Loses some of these pages, again and again. Returns the number of dumps that have a kernel.
fn lose(dump: &Dump, frames: &[usize], damage: &Damage) -> u64 {
    let mut read = 0;
    for seed in 0..damage.dumps {
        let lost = some(frames, damage.lost, seed);
        dump.put(&lost, true);
        let (has_kernel, wrong) = dump.mistakes();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        read += u64::from(has_kernel);
        dump.put(&lost, false);
    }
    println!("{} pages lost: {read} of {} dumps were read", damage.lost, damage.dumps);
    read
}

/// Cuts the dump, from its end to its beginning.
fn cut(dump: &Dump, damage: &Damage) {
    let mut read = 0;
    let pages = (dump.bytes.len() / PAGE_BYTES) as u64;
    for part in (1..=damage.cuts).rev() {
        let length = pages * part / (damage.cuts + 1) * PAGE_BYTES as u64;
        File::options().write(true).open(&dump.path).unwrap().set_len(length).unwrap();
        let (has_kernel, wrong) = dump.mistakes();
        assert!(wrong.is_empty(), "cut at {length}: {wrong:#?}");
        read += u64::from(has_kernel);
    }
    println!("cut: {read} of {} dumps were read", damage.cuts);
}

#[test]
fn what_lost_pages_leave_is_right() {
    let Some(dump) = Dump::recorded() else { return };
    // The recorded machine has few pages, and those of its kernel are many of them.
    let read = lose(&dump, &dump.frames(), &RECORDED);
    assert!(read > RECORDED.dumps / 2, "{read} of {} dumps were read", RECORDED.dumps);
}

#[test]
fn what_a_cut_leaves_is_right() {
    let Some(dump) = Dump::recorded() else { return };
    cut(&dump, &RECORDED);
}

/// Any pages are lost here, not only those that are read.
#[test]
fn what_damage_leaves_of_images_is_right() {
    let Some(folder) = std::env::var_os("PANOPTES_IMAGES") else {
        panoptes_needs::skip::test("PANOPTES_IMAGES");
        return;
    };
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_raw = |path: &PathBuf| path.extension().is_some_and(|end| end == "raw");
    for image in entries.filter(is_raw) {
        println!("{}", image.display());
        let dump = Dump::new(|path| fs::copy(&image, path).is_ok()).unwrap();
        let frames: Vec<usize> = (0..dump.bytes.len() / PAGE_BYTES).collect();
        let read = lose(&dump, &frames, &IMAGE);
        assert!(read * 100 >= IMAGE.dumps * 95, "{read} of {} dumps were read", IMAGE.dumps);
        cut(&dump, &IMAGE);
    }
}
