//! A sensor of what routers export, beside floods of exporters and of templates.
//!
//! A capture of the datagrams is written into a pipe, which the sensor follows.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use panoptes_bounded as bounded;
use panoptes_traffic::Random;

use super::quiet::{FILTER, Flows};
use super::records::Sums;
use super::senders::export;
use super::sensor::Running;

/// The address of the exporter that behaves.
const EXPORTER: [u8; 4] = [10, 9, 0, 1];
/// Datagrams of others for each of its own.
const OTHERS: u32 = 100;

/// The sensor, and what was exported to it.
#[derive(Debug)]
pub(crate) struct Exports {
    pub(crate) running: Running,
    pipe: File,
    random: Random,
    count: u32,
    truth: Flows,
}

impl Exports {
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Self, String> {
        let wrong = |error: std::io::Error| format!("exports: {error}");
        let (pipe, records) = (folder.join("exports.pcap"), folder.join("exports.json"));
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["flow", "-X", "-f", "--flows", "1000", "-r"]);
        command.arg(format!("cisco:{}", pipe.display())).arg("-w");
        command.arg(format!("json:{}", records.display())).arg(FILTER);
        let messages = File::create(folder.join("exports.messages")).map_err(wrong)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
        let running = Running::start(&mut command)?;
        let mut pipe = File::options().write(true).open(&pipe).map_err(wrong)?;
        let header = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 0xffff, 1];
        pipe.write_all(&header.map(u32::to_le_bytes).concat()).map_err(wrong)?;
        Ok(Self { running, pipe, random: Random::new(5), count: 0, truth: Flows::new() })
    }

    /// Exports one flow, and datagrams of many others.
    pub(crate) fn send(&mut self) -> Result<(), String> {
        let time_s = 1_700_000_000 + self.count / 10;
        let mut bytes = Vec::new();
        for _ in 0..OTHERS {
            let from = (self.random.next() as u32 | 0xac00_0000).to_be_bytes();
            let data = export(&mut self.random);
            bytes.extend(packet(time_s, from, &data));
        }
        let [_, _, high, low] = self.count.to_be_bytes();
        let source = [10, 1, high, low];
        let numbers = [1 + self.count % 100, 100 * (1 + self.count % 50)];
        bytes.extend(packet(time_s, EXPORTER, &version_5(self.count, source, numbers)));
        let key = ["udp", &source.map(|byte| byte.to_string()).join("."), "4000", "10.1.255.255"];
        let [protocol, source, port, destination] = key.map(str::to_owned);
        let key = [protocol, source, port, destination, "5000".to_owned()];
        super::quiet::add(&mut self.truth, key, [numbers[0].into(), 0, numbers[1].into(), 0]);
        self.count += 1;
        self.pipe.write_all(&bytes).map_err(|error| format!("exports: {error}"))
    }

    /// Ends the sensor. Its flows and those that were exported, and how long it took to end.
    pub(crate) fn end(mut self, folder: &Path) -> Result<(Flows, Flows, Duration), String> {
        let mut records = Sums::default();
        let begin = Instant::now();
        let is_read = |records: &Sums| records.flows.len() >= self.truth.len();
        while !is_read(&records) && begin.elapsed() < bounded::BOUND {
            std::thread::sleep(Duration::from_millis(100));
            records = Sums::default();
            records.read(&folder.join("exports.json"))?;
        }
        self.running.signal(Signal::SIGTERM)?;
        let (time, _) = self.running.wait(bounded::BOUND)?;
        let mut records = Sums::default();
        records.read(&folder.join("exports.json"))?;
        fs::remove_file(folder.join("exports.pcap")).map_err(|error| error.to_string())?;
        Ok((records.flows, self.truth, time))
    }
}

/// A packet of a capture with a datagram for the port of collectors.
fn packet(time_s: u32, from: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 9, 0, 2, 2, 0, 0, 9, 0, 1, 8, 0, 0x45, 0];
    packet.extend(((28 + data.len()) as u16).to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend([from, [198, 18, 0, 2]].concat());
    packet.extend([40_000, 2055, (8 + data.len()) as u16, 0].map(u16::to_be_bytes).concat());
    packet.extend(data);
    let length = packet.len() as u32;
    [&[time_s, 0, length, length].map(u32::to_le_bytes).concat(), &packet[..]].concat()
}

/// NetFlow version 5 with one flow of UDP (Cisco's "NetFlow Export Datagram Formats", tables 1-3
/// and 1-4), from port 4000 to port 5000: its number, its source, its packets and bytes.
fn version_5(number: u32, source: [u8; 4], [packets, bytes]: [u32; 2]) -> Vec<u8> {
    let mut data = vec![0, 5, 0, 1];
    let header = [100_000, 1_700_000_000, 0, number, 0];
    let source = u32::from_be_bytes(source);
    let flow = [source, 0x0a01_ffff, 0, 0x0001_0002, packets, bytes, 90_000, 95_000];
    let rest = [0x0fa0_1388, 0x1100, 0, 0];
    data.extend([&header[..], &flow, &rest].concat().into_iter().flat_map(u32::to_be_bytes));
    data
}
