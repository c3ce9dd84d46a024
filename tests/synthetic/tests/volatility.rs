//! Volatility 3 reads the same processes, arguments, areas and open files from a machine.
//!
//! `PANOPTES_VOLATILITY` names the program `vol`; without it, the one in `PATH` is used. Where
//! there is none, the test prints `skipped:`.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_bounded as bounded;
use panoptes_synthetic::{Machine, Size, profile};
use serde_json::Value;

/// The program, if there is one.
fn program() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("PANOPTES_VOLATILITY") {
        return Some(program.into());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join("vol")).find(|path| path.is_file())
}

/// A machine in a folder, for Volatility.
struct Dumped {
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Dumped {
    fn new(program: &Path, machine: &Machine) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let symbols = folder.path().join("symbols/linux");
        for wanted in [&symbols, &folder.path().join("cache")] {
            std::fs::create_dir_all(wanted).expect("a folder can be made");
        }
        let table = serde_json::to_vec(&machine.isf()).expect("the table is JSON");
        std::fs::write(symbols.join("kernel.json"), table).expect("a file can be written");
        let mut file = std::fs::File::create(folder.path().join("memory")).expect("a file");
        machine.write_raw(&mut file).expect("the memory can be written");
        Self { program: program.to_owned(), folder }
    }

    /// The rows of a plugin.
    fn rows(&self, plugin: &str) -> Vec<Value> {
        let folder = self.folder.path();
        let output = bounded::output_within(
            Command::new(&self.program)
                .args(["-q", "--offline", "-r", "json"])
                .arg("--cache-path")
                .arg(folder.join("cache"))
                .arg("-s")
                .arg(folder.join("symbols"))
                .arg("-f")
                .arg(folder.join("memory"))
                .arg(plugin),
            bounded::LONG,
        )
        .expect("Volatility runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{plugin}: {errors}");
        let text = String::from_utf8_lossy(&output.stdout);
        let start = text.find('[').unwrap_or_else(|| panic!("{plugin}: {text} {errors}"));
        serde_json::from_str(&text[start..]).unwrap_or_else(|why| panic!("{plugin}: {why}: {text}"))
    }

    /// Rows as texts of the values in `columns`.
    fn lines(&self, plugin: &str, columns: &[&str]) -> BTreeSet<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let line = |row: Value| {
            let values: Vec<_> = columns.iter().map(|column| text(&row[column])).collect();
            values.join(" ")
        };
        self.rows(plugin).into_iter().map(line).collect()
    }
}

fn assert_same(what: &str, found: &BTreeSet<String>, expected: &BTreeSet<String>) {
    let missing: Vec<_> = expected.difference(found).take(5).collect();
    let extra: Vec<_> = found.difference(expected).take(5).collect();
    assert!(
        missing.is_empty() && extra.is_empty() && !expected.is_empty(),
        "{what}: missing: {missing:#?}, extra: {extra:#?}"
    );
}

#[test]
fn volatility_reads_the_same_machine() {
    let Some(program) = program() else {
        panoptes_needs::skip::test("vol");
        return;
    };
    for release in common::RELEASES {
        let size = Size { areas: 30, ..Size::default() };
        let builder = Machine::builder(&profile(release)).size(size).kaslr(0x0e60_0000);
        let mut machine = builder.build();
        let last = machine.processes().last().expect("there are processes").pid;
        let child = machine.fork(last);
        machine.exec(child, "/usr/bin/child", &["child", "-x"]);
        machine.kill(last);
        compare(release, &machine, &Dumped::new(&program, &machine));
    }
}

fn compare(release: &str, machine: &Machine, dumped: &Dumped) {
    let processes = || machine.processes().filter(|process| process.pid != 0);
    let names = processes().map(|process| {
        let name = &machine.thread(process.pid).name;
        format!("{} {} {name} {}", process.pid, process.parent, process.uid)
    });
    let found = dumped.lines("linux.pslist.PsList", &["PID", "PPID", "COMM", "EUID"]);
    assert_same(&format!("{release}: processes"), &found, &names.collect());

    let arguments = processes().map(|process| {
        let arguments = if process.is_kernel {
            format!("[{}]", machine.thread(process.pid).name)
        } else {
            process.arguments.join(" ")
        };
        format!("{} {arguments}", process.pid)
    });
    let found = dumped.lines("linux.psaux.PsAux", &["PID", "ARGS"]);
    assert_same(&format!("{release}: arguments"), &found, &arguments.collect());

    let areas = processes().flat_map(|process| {
        let pid = process.pid;
        machine.areas(pid).into_iter().map(move |area| {
            let path = area.path.unwrap_or_default();
            format!("{pid} {} {} {path}", area.start, area.end)
        })
    });
    let found = dumped.lines("linux.proc.Maps", &["PID", "Start", "End", "File Path"]);
    let unnamed = ["[heap]", "[stack]", "[vdso]", "Anonymous Mapping"];
    let found = found.into_iter().map(|line| {
        let name = unnamed.iter().find_map(|name| line.strip_suffix(name));
        name.map_or(line.clone(), str::to_owned)
    });
    assert_same(&format!("{release}: areas"), &found.collect(), &areas.collect());

    let files = processes().flat_map(|process| {
        let files = machine.descriptors(process.pid).into_iter();
        files.map(|(descriptor, path)| format!("{} {descriptor} {path}", process.pid))
    });
    // Sockets have no path without the code that names them.
    let files = files.filter(|line| !line.contains("socket:"));
    let found = dumped.lines("linux.lsof.Lsof", &["PID", "FD", "Path"]);
    let found = found.into_iter().filter(|line| !line.ends_with(" /"));
    assert_same(&format!("{release}: files"), &found.collect(), &files.collect());
}
