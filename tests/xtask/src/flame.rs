//! `cargo xtask bench --flame`: where the time of a scan goes, as a picture (SVG).
//!
//! Samples of the processor's clock come from `perf`; the stacks that `perf script` prints are
//! merged here and drawn by [`crate::chart`], the outermost function at the top. A box is as wide
//! as its function's share of the samples. Functions too narrow to see are left out.
//!
//! The merged stacks stand in a file beside the picture, in the form that tools for flame graphs
//! read: `OUTERMOST;…;INNERMOST SAMPLES`. `cargo xtask plots` draws the picture of docs/images from
//! its file again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use panoptes_bounded as bounded;
use panoptes_rig::output;

use crate::chart::{BoxChart, RGBColor, ShareBox};

/// The function of a scan. What is above it is the program that calls it.
const ROOT: &str = "panoptes_engine::read_rows";
/// The stacks behind docs/images/scan.svg.
const STORED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/images/scan.folded");
/// The narrowest box, as a share of all samples.
const SHARE_MIN: f64 = 0.002;
/// Samples a second, and the bytes of stack that each keeps for unwinding.
const RATE: &str = "1999";
const STACK: &str = "dwarf,4096";

/// Beginnings of functions' names.
const CRATES: [&str; 5] =
    ["panoptes_sources", "panoptes_tables", "panoptes_decoders", "panoptes_engine", ""];
/// What these crates do, with the colours of their functions. A function that perf names without
/// its crate has the colour of its caller.
const KINDS: [(&str, RGBColor); 5] = [
    ("reading the memory", RGBColor(0x8f, 0xc1, 0xe3)),
    ("tables", RGBColor(0xf2, 0xb8, 0x72)),
    ("decoding", RGBColor(0xa8, 0xd5, 0xa2)),
    ("the walk", RGBColor(0xe8, 0xa0, 0x9a)),
    ("libraries and the kernel", RGBColor(0xd0, 0xd0, 0xd0)),
];

/// Names of the library's functions that only pass on.
const NOISE: &[&str] = &[
    "all",
    "any",
    "as_deref",
    "as_mut",
    "as_ref",
    "call",
    "call_mut",
    "call_once",
    "chain",
    "collect",
    "deref",
    "deref_mut",
    "each_ahead",
    "extend",
    "extend_desugared",
    "extend_trusted",
    "filter_map_fold",
    "find",
    "fold",
    "for_each",
    "from_iter",
    "get",
    "get_mut",
    "index",
    "index_mut",
    "into_iter",
    "is_some_and",
    "map",
    "map_fold",
    "map_or",
    "map_try_fold",
    "next",
    "spec_extend",
    "spec_next",
    "try_fold",
    "try_for_each",
    "unwrap_or",
    "unwrap_or_default",
    "zip",
];

/// Records scans of a memory file, and writes the picture and the stacks beside it.
pub(crate) fn record(floor: &Path, scans: &str, ram: &Path, picture: &Path) -> Result<(), String> {
    let data = picture.with_extension("perf");
    let mut perf = Command::new("perf");
    perf.args(["record", "--quiet", "--event", "cpu-clock", "--freq", RATE]);
    perf.args(["--call-graph", STACK, "--output"]).arg(&data).arg("--").arg(floor);
    perf.args(["--scans-only", "--runs", scans]).arg(ram).stdout(Stdio::null());
    let status = bounded::status_within(&mut perf, bounded::LONG)
        .map_err(|e| format!("cannot start perf (linux-perf): {e}"))?;
    if !status.success() {
        return Err(format!(
            "perf record failed ({status}): is kernel.perf_event_paranoid above 2?"
        ));
    }
    let mut script = Command::new("perf");
    script.args(["script", "--fields", "ip,sym", "--input"]).arg(&data);
    let stacks = output(&mut script)?;
    let _ = std::fs::remove_file(&data);
    let frames = Frame::of(&stacks);
    if frames.samples == 0 {
        return Err(format!("perf saw no sample of {ROOT}"));
    }
    let (folded, stored) = (frames.folded(), picture.with_extension("folded"));
    std::fs::write(&stored, &folded).map_err(|e| format!("{}: {e}", stored.display()))?;
    let document = draw(&Frame::of_folded(&folded)?)?;
    std::fs::write(picture, document).map_err(|e| format!("{}: {e}", picture.display()))?;
    println!("{} samples: {}, {}", frames.samples, picture.display(), stored.display());
    Ok(())
}

/// The picture of docs/images, from the stacks beside it.
pub(crate) fn draw_again() -> Result<String, String> {
    let folded = std::fs::read_to_string(STORED).map_err(|e| format!("{STORED}: {e}"))?;
    draw(&Frame::of_folded(&folded)?)
}

/// A function, with those that it calls.
#[derive(Debug, Default, Eq, PartialEq)]
struct Frame {
    samples: u64,
    calls: BTreeMap<String, Frame>,
}

impl Frame {
    /// The stacks of `perf script` below [`ROOT`]. It prints the innermost function first, and an
    /// empty line after each stack.
    fn of(script: &str) -> Self {
        let mut root = Self::default();
        let mut stack: Vec<(&str, &str)> = Vec::new();
        for line in script.lines().chain([""]) {
            if let Some((at, symbol)) = line.trim().split_once(' ') {
                // Perf names the innermost of functions that are inlined into each other like the
                // outermost.
                let inlined = stack.iter().rposition(|&(address, _)| address != at);
                let inlined = inlined.map_or(0, |before| before + 1);
                if stack.get(inlined) == Some(&(at, symbol)) {
                    stack.remove(inlined);
                }
                stack.push((at, symbol));
            } else if line.trim().is_empty() {
                let names: Vec<String> = stack.iter().filter_map(|it| name(it.1)).collect();
                if let Some(from) = names.iter().rposition(|name| name == ROOT) {
                    root.add(names[..from].iter().rev().map(String::as_str), 1);
                }
                stack.clear();
            }
        }
        root
    }

    /// Adds samples of a stack, whose functions come from the outermost on.
    fn add<'a>(&mut self, stack: impl Iterator<Item = &'a str>, samples: u64) {
        let mut at = self;
        at.samples += samples;
        for name in stack {
            at = at.calls.entry(name.to_owned()).or_default();
            at.samples += samples;
        }
    }

    /// The stacks that a file beside a picture has.
    fn of_folded(text: &str) -> Result<Self, String> {
        let mut root = Self::default();
        for line in text.lines() {
            let parts = line.rsplit_once(' ');
            let stack =
                parts.and_then(|(stack, samples)| Some((stack, samples.parse::<u64>().ok()?)));
            let (stack, samples) = stack.ok_or_else(|| format!("{line:?} is no stack"))?;
            root.add(stack.split(';').skip(1), samples);
        }
        Ok(root)
    }

    /// The stacks that are drawn, one a line. Functions too narrow to see belong to their callers.
    fn folded(&self) -> String {
        let mut text = String::new();
        self.fold(ROOT, self.samples as f64, &mut text);
        text
    }

    fn fold(&self, stack: &str, all: f64, text: &mut String) {
        let is_drawn = |call: &Self| call.samples as f64 / all >= SHARE_MIN;
        let drawn = self.calls.iter().filter(|(_, call)| is_drawn(call)).collect::<Vec<_>>();
        let in_calls: u64 = drawn.iter().map(|(_, call)| call.samples).sum();
        let own = self.samples.saturating_sub(in_calls);
        if own > 0 {
            let _ = writeln!(text, "{stack} {own}");
        }
        for (name, call) in drawn {
            call.fold(&format!("{stack};{name}"), all, text);
        }
    }
}

/// A function's name: its crate, where the symbol has it, and the last part of its path. `None` for
/// closures and for what the library's iterators consist of, which perf names where the compiler
/// has inlined it: their callers have the time.
fn name(symbol: &str) -> Option<String> {
    let symbol = symbol.strip_suffix(" (inlined)").unwrap_or(symbol);
    // Without parameters of types, however deep.
    let (mut plain, mut depth) = (String::new(), 0);
    for c in symbol.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let parts: Vec<&str> = plain.split("::").filter(|part| !part.is_empty()).collect();
    // A method of a trait begins with its type: `<panoptes_sources::open::FileSource as …>::…`.
    let of_type = symbol.strip_prefix('<').and_then(|rest| rest.split(':').next());
    let is_noise = |part: &&&str| !part.starts_with('{') && !NOISE.contains(*part);
    let last = parts.iter().rev().find(|part| !is_hash(part))?;
    if !is_noise(&last) {
        return None;
    }
    let of_path = (parts.len() > 1).then(|| parts[0]);
    match of_type.filter(|of| of.contains('_')).or(of_path) {
        Some(of) => Some(format!("{of}::{last}")),
        None => Some((*last).to_owned()),
    }
}

/// Whether a part of a path is the hash that ends a symbol.
fn is_hash(part: &str) -> bool {
    part.len() == 17 && part.starts_with('h') && part[1..].bytes().all(|b| b.is_ascii_hexdigit())
}

fn draw(root: &Frame) -> Result<String, String> {
    let mut boxes = Vec::new();
    add_boxes((ROOT, root), (0, 0.0), (root.samples as f64, None), &mut boxes);
    let chart = BoxChart {
        title: "Where the time of a scan goes",
        shares: "share of all samples of the processor's clock [%]",
        levels: "functions, called from above",
        kinds: &KINDS,
        boxes,
    };
    chart.svg()
}

/// Adds the box of a function, which begins at this sample of all, and those of its calls.
fn add_boxes(
    (name, frame): (&str, &Frame),
    (level, start): (usize, f64),
    (all, caller): (f64, Option<usize>),
    boxes: &mut Vec<ShareBox>,
) {
    let of_crate = CRATES.iter().position(|start| name.starts_with(start)).unwrap_or(0);
    let kind = caller.filter(|_| !name.contains("::")).unwrap_or(of_crate);
    let end = start + frame.samples as f64;
    boxes.push(ShareBox {
        name: name.rsplit("::").next().unwrap_or(name).to_owned(),
        level,
        start: start / all * 100.0,
        end: end / all * 100.0,
        kind,
    });
    let mut next = start;
    for (name, call) in &frame.calls {
        add_boxes((name, call), (level + 1, next), (all, Some(kind)), boxes);
        next += call.samples as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "
\t   1 panoptes_sources::mapped::MappedFile::read_ahead::<16>
\t   2 <panoptes_sources::open::FileSource as panoptes_decoders::MemorySource>::read_batch
\t   3 panoptes_engine::walk::scan::<impl panoptes_engine::walk::Walker>::read_rows
\t   4 scan_floor::main

\t   3 panoptes_engine::walk::scan::<impl panoptes_engine::walk::Walker>::read_rows
\t   3 next<panoptes_engine::walk::files::{closure_env#0}> (inlined)
\t   3 place_inode (inlined)
\t   3 panoptes_engine::walk::scan::<impl panoptes_engine::walk::Walker>::read_rows

\t   7 scan_floor::main
";

    #[test]
    fn stacks_are_merged_below_the_scan() {
        let root = Frame::of(SCRIPT);
        assert_eq!(root.samples, 2);
        let names: Vec<&str> = root.calls.keys().map(String::as_str).collect();
        assert_eq!(names, ["panoptes_sources::read_batch", "place_inode"]);
        let read = &root.calls["panoptes_sources::read_batch"];
        assert_eq!(read.calls.keys().collect::<Vec<_>>(), ["panoptes_sources::read_ahead"]);
        let picture = draw(&root).unwrap();
        for text in ["place_inode", "read_ahead", "tables", "60"] {
            assert!(picture.contains(&format!(">\n{text}\n</text>")), "{text}: {picture}");
        }
    }

    #[test]
    fn stacks_are_stored_without_those_too_narrow_to_see() {
        let mut root = Frame::default();
        root.add(["a", "b"].into_iter(), 600);
        root.add(["a"].into_iter(), 399);
        let whole = Frame::of_folded(&root.folded());
        assert_eq!(root.folded(), format!("{ROOT};a 399\n{ROOT};a;b 600\n"));
        assert_eq!(whole, Ok(root));
        let mut root = whole.unwrap();
        root.add(["narrow"].into_iter(), 1);
        assert!(root.folded().starts_with(&format!("{ROOT} 1\n{ROOT};a 399\n")));
        assert!(Frame::of_folded("a;b").is_err() && Frame::of_folded("a x").is_err());
    }

    #[test]
    fn names_have_a_crate_and_the_last_part() {
        assert_eq!(name("a_b::c::D<e::F>::g::h0123456789abcdef").as_deref(), Some("a_b::g"));
        assert_eq!(name("a_b::c::{{closure}}"), None);
        assert_eq!(name("exc_page_fault").as_deref(), Some("exc_page_fault"));
    }
}
