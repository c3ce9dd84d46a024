//! Filters keep what `tcpdump` keeps, and are the programs that it shows.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use panoptes_bounded as bounded;
use panoptes_packet_filter::{FilterError, FilterOptions, PacketFilter, PacketOrigin};
use tempfile::TempDir;

use crate::captures::{
    COOKED, COOKED_2, ETHERNET, NULL, PPP, Packet, RADIOTAP, RAW, WIRELESS, ethernet, on, pcap,
    read, swapped_pcap,
};
use crate::each;
use crate::expressions::EXPRESSIONS;

pub(crate) fn run(arguments: &[&str], stdin: Stdio) -> Output {
    let mut command = Command::new("tcpdump");
    command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.spawn().and_then(bounded::wait_with_output);
    output.expect("tcpdump runs; as root, run: apt-get install --yes tcpdump")
}

/// The last line of what tcpdump has to say about a wrong expression.
fn complaint(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let line = errors.lines().last().unwrap_or_default();
    line.strip_prefix("tcpdump: ").unwrap_or(line).to_owned()
}

/// What an expression's filter keeps, or libpcap's message.
fn kept(
    expression: &str,
    options: &FilterOptions,
    packets: &[Packet],
) -> Result<Vec<Packet>, String> {
    let filter = match PacketFilter::compile(expression, options) {
        Ok(filter) => filter,
        Err(FilterError::Expression { message, .. }) => return Err(message),
        Err(error) => panic!("{expression:?}: {error}"),
    };
    let is_kept = |packet: &&Packet| filter.matches(&packet.bytes, packet.wire_length);
    Ok(packets.iter().filter(is_kept).cloned().collect())
}

/// What tcpdump keeps of a file, or libpcap's message.
fn kept_by_tcpdump(
    expression: &str,
    optimise: bool,
    capture: &Path,
) -> Result<Vec<Packet>, String> {
    let file = File::open(capture).expect("the capture can be read");
    let how = if optimise { "-w-" } else { "-Ow-" };
    let output = run(&["-r", "-", how, "--", expression], file.into());
    if output.status.success() { Ok(read(output.stdout)) } else { Err(complaint(&output)) }
}

/// Compares, for each expression, what tcpdump keeps with what our filters keep. Returns how many
/// expressions keep some packets, but not all.
fn compare(link: u16, packets: &[Packet]) -> usize {
    let options = |optimise| FilterOptions { optimise, ..FilterOptions::new(link) };
    compare_with(&options, packets, &pcap(link, packets))
}

/// The same for packets of one capture file, with options that depend on whether programs are
/// optimised.
fn compare_with(
    options: &(dyn Fn(bool) -> FilterOptions + Sync),
    packets: &[Packet],
    capture: &[u8],
) -> usize {
    let link = options(true).link;
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("in.pcap");
    std::fs::write(&path, capture).expect("the capture can be written");
    let telling = AtomicUsize::new(0);
    each(EXPRESSIONS.len(), |number| {
        let expression = EXPRESSIONS[number];
        let mut both = Vec::new();
        for optimise in [true, false] {
            let expected = kept_by_tcpdump(expression, optimise, &path);
            let found = kept(expression, &options(optimise), packets);
            if found != expected {
                let counts = [expected, found].map(|result| result.map(|kept| kept.len()));
                let what = format!("link {link}, {expression:?}, {optimise}");
                return Some(format!("{what}: tcpdump, we: {counts:?}"));
            }
            both.push(found.ok()?);
        }
        if !both[0].is_empty() && both[0].len() < packets.len() {
            telling.fetch_add(1, Ordering::Relaxed);
        }
        // A load that fails ends the program, and the optimiser changes the order of loads.
        for kept in &mut both {
            kept.retain(Packet::is_whole);
        }
        let differs = both[0] != both[1];
        differs.then(|| format!("link {link}, {expression:?}: the optimised one keeps others"))
    });
    telling.into_inner()
}

#[test]
fn filters_of_ethernet_keep_what_tcpdump_keeps() {
    let packets = ethernet();
    assert!(packets.len() > 2000, "{} packets", packets.len());
    let telling = compare(ETHERNET, &packets);
    assert!(telling > 150, "only {telling} expressions keep some packets and drop others");
}

#[test]
fn filters_of_other_links_keep_what_tcpdump_keeps() {
    let frames = ethernet();
    for link in [NULL, PPP, RAW, WIRELESS, COOKED, RADIOTAP, COOKED_2] {
        let packets: Vec<_> = on(link, &frames).into_iter().step_by(3).collect();
        assert!(packets.len() > 500, "link {link}: {} packets", packets.len());
        let telling = compare(link, &packets);
        assert!(telling > 80, "link {link}: {telling} expressions keep some and drop others");
    }
}

/// In captures of BSD's loopback interface, the byte order of the machine that made them counts.
#[test]
fn filters_of_swapped_captures_keep_what_tcpdump_keeps() {
    let packets: Vec<_> = on(NULL, &ethernet()).into_iter().step_by(5).collect();
    let mut swapped = packets.clone();
    for packet in &mut swapped {
        if let Some(family) = packet.bytes.first_chunk_mut::<4>() {
            family.reverse();
        }
    }
    let origin = PacketOrigin::File { is_swapped: true };
    let options = |optimise| FilterOptions { origin, optimise, ..FilterOptions::new(NULL) };
    let capture = swapped_pcap(NULL, &swapped);
    let telling = compare_with(&options, &swapped, &capture);
    assert!(telling > 80, "{telling} expressions keep some packets and drop others");
    let ip = PacketFilter::compile("ip", &options(true)).expect("a filter");
    let keeps = |packet: &&Packet| ip.matches(&packet.bytes, packet.wire_length);
    let native = PacketFilter::compile("ip", &FilterOptions::new(NULL)).expect("a filter");
    let is_native = |packet: &&Packet| native.matches(&packet.bytes, packet.wire_length);
    assert_eq!(swapped.iter().filter(keeps).count(), packets.iter().filter(is_native).count());
}

/// Such a list has more instructions than a kernel takes.
#[test]
fn long_expressions_keep_what_tcpdump_keeps() {
    let packets: Vec<_> = ethernet().into_iter().step_by(5).collect();
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("in.pcap");
    std::fs::write(&path, pcap(ETHERNET, &packets)).expect("the capture can be written");
    let ids: Vec<_> = (0..400).map(|number| format!("ip[4:2] & 1023 = {number}")).collect();
    let expression = ids.join(" or ");
    let options = FilterOptions { optimise: false, ..FilterOptions::new(ETHERNET) };
    let found = kept(&expression, &options, &packets).expect("libpcap takes it");
    assert!(found.len() > 50 && found.len() < packets.len(), "{}", found.len());
    assert!(found == kept_by_tcpdump(&expression, false, &path).expect("tcpdump takes it"));
    let filter = PacketFilter::compile(&expression, &options).expect("a filter");
    assert!(filter.instructions().len() > 4096, "{}", filter.instructions().len());
}

#[test]
fn dumps_are_those_of_tcpdump() {
    for (name, link) in [("EN10MB", ETHERNET), ("RAW", RAW), ("LINUX_SLL", COOKED)] {
        each(EXPRESSIONS.len(), |number| {
            let expression = EXPRESSIONS[number];
            for optimise in [true, false] {
                let plain = if optimise { "-d" } else { "-Od" };
                let output = run(&[plain, "-y", name, "--", expression], Stdio::null());
                // Without a capture, tcpdump expects packets of an interface.
                let options = FilterOptions {
                    origin: PacketOrigin::Interface,
                    optimise,
                    ..FilterOptions::new(link)
                };
                let found = PacketFilter::compile(expression, &options);
                let (expected, found) = match found {
                    Ok(filter) => (String::from_utf8_lossy(&output.stdout).into(), filter.dump()),
                    Err(FilterError::Expression { message, .. }) => (complaint(&output), message),
                    Err(error) => (String::new(), error.to_string()),
                };
                if found != expected {
                    let what = format!("{name} {expression:?} {plain}");
                    return Some(format!("{what}: tcpdump:\n{expected}\nwe:\n{found}"));
                }
            }
            None
        });
    }
}
