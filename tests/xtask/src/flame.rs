//! `cargo xtask bench --flame`: where the time of a scan goes, as a picture (SVG).
//!
//! Samples of the processor's clock come from `perf`; the stacks that `perf script` prints are
//! merged and drawn here, the outermost function at the top. A box is as wide as its function's
//! share of the samples. Boxes too narrow to see are left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use panoptes_bounded as bounded;
use panoptes_rig::output;

/// The function of a scan. What is above it is the program that calls it.
const ROOT: &str = "panoptes_engine::read_rows";
const WIDTH: f64 = 1200.0;
const ROW: f64 = 17.0;
const TOP: f64 = 44.0;
/// Width of a character of the font, at most.
const CHARACTER: f64 = 6.2;
/// The narrowest box, as a share of all samples.
const SHARE_MIN: f64 = 0.002;
/// Samples a second, and the bytes of stack that each keeps for unwinding.
const RATE: &str = "1999";
const STACK: &str = "dwarf,4096";

/// Crates, and the colours of their functions. A function that perf names without its crate has the
/// colour of its caller.
const COLOURS: [(&str, &str, &str); 5] = [
    ("panoptes_sources", "reading the memory", "#8fc1e3"),
    ("panoptes_tables", "tables", "#f2b872"),
    ("panoptes_decoders", "decoding", "#a8d5a2"),
    ("panoptes_engine", "the walk", "#e8a09a"),
    ("", "libraries and the kernel", "#d0d0d0"),
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

/// Records scans of a memory file, and writes the picture.
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
    std::fs::write(picture, draw(&frames)).map_err(|e| format!("{}: {e}", picture.display()))?;
    println!("{} samples: {}", frames.samples, picture.display());
    Ok(())
}

/// A function, with those that it calls.
#[derive(Debug, Default)]
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
                // Of functions that are inlined into each other, perf names the innermost like the
                // outermost.
                let inlined = stack.iter().rposition(|&(address, _)| address != at);
                let inlined = inlined.map_or(0, |before| before + 1);
                if stack.get(inlined) == Some(&(at, symbol)) {
                    stack.remove(inlined);
                }
                stack.push((at, symbol));
            } else if line.trim().is_empty() {
                let names: Vec<String> = stack.iter().filter_map(|it| name(it.1)).collect();
                root.add(&names);
                stack.clear();
            }
        }
        root
    }

    fn add(&mut self, stack: &[String]) {
        let Some(from) = stack.iter().rposition(|name| name == ROOT) else { return };
        let mut at = self;
        at.samples += 1;
        for name in stack[..from].iter().rev() {
            at = at.calls.entry(name.clone()).or_default();
            at.samples += 1;
        }
    }

    /// Number of levels that are drawn.
    fn depth(&self, all: f64) -> usize {
        let drawn = self.calls.values().filter(|call| call.samples as f64 / all >= SHARE_MIN);
        1 + drawn.map(|call| call.depth(all)).max().unwrap_or(0)
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

fn draw(root: &Frame) -> String {
    let all = root.samples as f64;
    let height = TOP + ROW * root.depth(all) as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"monospace\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut x = 4.0;
    for (_, what, colour) in COLOURS {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.0}\" y=\"10\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\n\
             <text x=\"{:.0}\" y=\"20\">{what}</text>",
            x + 16.0
        );
        x += 40.0 + what.len() as f64 * CHARACTER;
    }
    draw_frame(&mut svg, (ROOT, root), (0.0, TOP), (all, ""));
    svg.push_str("</svg>\n");
    svg
}

fn draw_frame(
    svg: &mut String,
    (name, frame): (&str, &Frame),
    (x, y): (f64, f64),
    (all, callers): (f64, &str),
) {
    let share = frame.samples as f64 / all;
    let width = share * WIDTH;
    let of_crate = COLOURS.iter().find(|(of, ..)| name.starts_with(of)).map_or("", |it| it.2);
    let colour = if name.contains("::") || callers.is_empty() { of_crate } else { callers };
    let short = name.rsplit("::").next().unwrap_or(name);
    let room = ((width - 4.0) / CHARACTER).max(0.0) as usize;
    let label: String = if room < 3 { String::new() } else { short.chars().take(room).collect() };
    let _ = writeln!(
        svg,
        "<g><title>{} {:.1} %</title><rect x=\"{x:.1}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{}\" \
         fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.0}\">{}</text></g>",
        escaped(name),
        share * 100.0,
        (width - 0.5).max(0.2),
        ROW - 1.0,
        x + 2.0,
        y + 12.0,
        escaped(&label)
    );
    let mut next = x;
    for (name, call) in &frame.calls {
        if call.samples as f64 / all >= SHARE_MIN {
            draw_frame(svg, (name, call), (next, y + ROW), (all, colour));
        }
        next += call.samples as f64 / all * WIDTH;
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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
        assert_eq!(root.depth(2.0), 3);
        let picture = draw(&root);
        assert!(picture.contains("place_inode 50.0 %"), "{picture}");
    }

    #[test]
    fn names_have_a_crate_and_the_last_part() {
        assert_eq!(name("a_b::c::D<e::F>::g::h0123456789abcdef").as_deref(), Some("a_b::g"));
        assert_eq!(name("a_b::c::{{closure}}"), None);
        assert_eq!(name("exc_page_fault").as_deref(), Some("exc_page_fault"));
    }
}
