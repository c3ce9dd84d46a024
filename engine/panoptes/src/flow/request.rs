//! What the user wants: one structure for the options of the command line and for `argus.conf`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use panoptes_flow::identity::FlowIdentity;
use panoptes_flow::{ApplicationSettings, ControlPorts, Timeouts};
use panoptes_packet_files::PACKET_BYTES_MAX;
use panoptes_packet_filter::SNAP_LENGTH_MAX;
use panoptes_records::flow::USER_BYTES_MAX;
use panoptes_sinks::flow::argus::ArgusOptions;
use panoptes_sinks::flow::output::{AllowedNetworks, PORT};

use super::control;
use super::devices::{ALL, FlowStream, NamedInterface};
use super::labels::LabelTable;
use super::origin::Server;
use super::values::{address, id_and_interface, mistake, number};
use crate::exit::Failure;

/// The status interval of argus in seconds (`ARGUS_FARSTATUSTIMER`).
const STATUS_INTERVAL_NS: i64 = 5_000_000_000;
/// That of management records, as argus(8) documents it.
const MANAGEMENT_INTERVAL_S: u16 = 300;
/// Headers of all layers that are decoded, with their options, almost always fit into this.
const SNAP_LENGTH: u32 = 256;
const _: () = {
    let whole = SNAP_LENGTH_MAX as usize == PACKET_BYTES_MAX;
    assert!(whole, "a filter keeps as much of a packet as a capture can have");
    assert!(SNAP_LENGTH + USER_BYTES_MAX as u32 <= SNAP_LENGTH_MAX, "headers and data fit");
};
/// The port of collectors of IPFIX: RFC 7011 §10.1.
const IPFIX_PORT: u16 = 4739;
/// Flows that are tracked at once.
const CAPACITY: usize = 1_000_000;
/// The same of an endpoint, and the bytes of the ring of each of its interfaces.
const ENDPOINT_CAPACITY: usize = 4096;
const ENDPOINT_RING_BYTES: usize = 128 << 10;

/// What to read, what to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FlowRequest {
    pub(super) input: InputRequest,
    pub(super) interfaces: InterfaceRequest,
    pub(super) flows: FlowTableRequest,
    pub(super) records: RecordRequest,
    pub(super) outputs: Vec<OutputRequest>,
    pub(super) clients: ClientRequest,
    pub(super) process: ProcessRequest,
    /// The program was called `argus`.
    pub(super) is_argus: bool,
    pub(super) is_endpoint: bool,
    /// The system whose packets these are.
    pub(super) beside: Option<SystemRequest>,
    /// What a configuration asks for, and has no effect: its path, its line, the variable.
    pub(super) warnings: Vec<String>,
}

/// The captures to read, and the filter of their packets and of those of interfaces.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of argus(8)")]
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InputRequest {
    pub(super) captures: Vec<PathBuf>,
    pub(super) folders: Vec<PathBuf>,
    /// Captures have exports of NetFlow, IPFIX or sFlow: `-r cisco:FILE`.
    pub(super) cisco: Vec<PathBuf>,
    /// Servers that send captures: `-r tcp:HOST:PORT`.
    pub(super) servers: Vec<Server>,
    /// Numbers of the first and of the last packet to be read, from 1 on.
    pub(super) packets: (u64, u64),
    /// Captures are TSH, which has no mark of its own.
    pub(super) as_tsh: bool,
    /// At the end of a capture, wait for more.
    pub(super) follows: bool,
    /// How many seconds of a capture pass in one second.
    pub(super) time_scale: Option<f64>,
    /// The filter of packets, and whether libpcap optimises it.
    pub(super) filter: Option<String>,
    pub(super) optimises: bool,
    /// Print the filter's program and end.
    pub(super) prints_filter: bool,
}

impl Default for InputRequest {
    fn default() -> Self {
        Self {
            captures: Vec::new(),
            folders: Vec::new(),
            cisco: Vec::new(),
            servers: Vec::new(),
            packets: (1, u64::MAX),
            as_tsh: false,
            follows: false,
            time_scale: None,
            filter: None,
            optimises: true,
            prints_filter: false,
        }
    }
}

/// The network interfaces whose packets are received, and how.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InterfaceRequest {
    pub(super) streams: Vec<FlowStream>,
    pub(super) is_promiscuous: bool,
    pub(super) snap_length: u32,
    /// `-s` was given.
    pub(super) has_snap_length: bool,
    pub(super) ring_bytes: usize,
    /// How many threads divide the packets of interfaces: one at least.
    pub(super) threads: usize,
}

impl Default for InterfaceRequest {
    fn default() -> Self {
        Self {
            streams: Vec::new(),
            is_promiscuous: true,
            snap_length: SNAP_LENGTH,
            has_snap_length: false,
            ring_bytes: 32 << 20,
            threads: 1,
        }
    }
}

/// What identifies a flow, and how long it is tracked.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of argus(8)")]
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FlowTableRequest {
    pub(super) identity: FlowIdentity,
    pub(super) is_unidirectional: bool,
    /// `--vni-in-key`.
    pub(super) has_overlays: bool,
    /// Tunnels that a UDP port suggests are opened.
    pub(super) discovers_tunnels: bool,
    pub(super) capacity: usize,
    pub(super) timeouts: Timeouts,
    /// All data of these protocols is kept: `-C`, and the ports that a variable names.
    pub(super) keeps_control: bool,
    pub(super) control_ports: Option<ControlPorts>,
}

impl Default for FlowTableRequest {
    fn default() -> Self {
        Self {
            identity: FlowIdentity::default(),
            is_unidirectional: false,
            has_overlays: false,
            discovers_tunnels: true,
            capacity: CAPACITY,
            timeouts: Timeouts::default(),
            keeps_control: false,
            control_ports: None,
        }
    }
}

/// What records have, and how often they are written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RecordRequest {
    pub(super) options: ArgusOptions,
    pub(super) status_interval_ns: i64,
    pub(super) management_interval_s: u16,
    /// Records of argus 5 have the names of their interfaces.
    pub(super) names_interfaces: bool,
    pub(super) has_jitter: bool,
    pub(super) user_bytes: usize,
    pub(super) application: ApplicationSettings,
    /// Where answers of DNS go.
    pub(super) passive_dns: Option<Target>,
    /// Labels by address and port.
    pub(super) labels: Option<Arc<LabelTable>>,
}

impl Default for RecordRequest {
    fn default() -> Self {
        Self {
            options: ArgusOptions::default(),
            status_interval_ns: STATUS_INTERVAL_NS,
            management_interval_s: MANAGEMENT_INTERVAL_S,
            names_interfaces: false,
            has_jitter: false,
            user_bytes: 0,
            application: ApplicationSettings::default(),
            passive_dns: None,
            labels: None,
        }
    }
}

/// Where clients connect, and which.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ClientRequest {
    /// Port 0 for nowhere.
    pub(super) port: u16,
    /// `None`: this machine only, or for `argus` all addresses, as argus does.
    pub(super) bind: Option<Vec<IpAddr>>,
    pub(super) access: AllowedNetworks,
}

/// How the process runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProcessRequest {
    pub(super) is_daemon: bool,
    pub(super) has_pid_file: bool,
    pub(super) pid_folder: PathBuf,
    pub(super) root: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) debug_level: u8,
}

impl Default for ProcessRequest {
    fn default() -> Self {
        Self {
            is_daemon: false,
            has_pid_file: true,
            pid_folder: "/var/run".into(),
            root: None,
            user: None,
            group: None,
            debug_level: 0,
        }
    }
}

/// A system that is watched while its packets are audited.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct SystemRequest {
    /// As `panoptes scan` takes it.
    pub(super) system: OsString,
    pub(super) configuration: Option<PathBuf>,
    pub(super) alerts: Alerts,
}

/// Where alerts go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Alerts {
    #[default]
    StandardOutput,
    File(PathBuf),
}

/// An output and the filter of its records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct OutputRequest {
    pub(super) to: Target,
    pub(super) form: FlowRecordForm,
    pub(super) filter: Option<String>,
}

/// Where records go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    StandardOutput,
    File(PathBuf),
    /// One record in each datagram.
    Datagrams(SocketAddr),
    /// A collector of IPFIX.
    Ipfix(SocketAddr),
    /// A file of columns.
    Parquet(PathBuf),
}

/// The form of records.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum FlowRecordForm {
    /// As argus 3 writes them.
    #[default]
    Argus,
    /// As argus 5 writes them.
    Argus5,
    /// One JSON object a line.
    Json,
    /// Answers of DNS, one JSON object a line, and no records.
    PassiveDns,
}

impl FlowRecordForm {
    /// The form that a prefix names, and what is behind it.
    fn of(to: &str) -> (Self, &str) {
        let named = [("argus5:", Self::Argus5), ("json:", Self::Json)];
        let mut found =
            named.iter().filter_map(|(prefix, form)| Some((*form, to.strip_prefix(prefix)?)));
        found.next().unwrap_or((Self::Argus, to))
    }
}

/// A name in four bytes: the first letter and the last three if it is longer.
fn short(name: &str) -> [u8; 4] {
    let mut short = [0; 4];
    match name.as_bytes() {
        [first, .., b, c, d] if name.len() > 4 => short = [*first, *b, *c, *d],
        bytes => short[..bytes.len()].copy_from_slice(bytes),
    }
    short
}

impl FlowRequest {
    /// `-X`: forgets what a configuration or earlier options have set, but for what to read and for
    /// how the process runs (`clearArgusConfiguration`, `argus/argus.c`).
    pub(super) fn clear(&mut self) {
        let old = std::mem::take(self);
        *self = Self {
            input: InputRequest { filter: None, optimises: true, ..old.input },
            process: ProcessRequest {
                root: old.process.root,
                user: old.process.user,
                group: old.process.group,
                debug_level: old.process.debug_level,
                ..ProcessRequest::default()
            },
            is_argus: old.is_argus,
            beside: old.beside,
            ..Self::default()
        };
    }

    /// `--endpoint`: what one machine sends and receives, in little memory.
    pub(super) fn become_endpoint(&mut self) {
        self.is_endpoint = true;
        self.flows.capacity = ENDPOINT_CAPACITY;
        self.interfaces.ring_bytes = ENDPOINT_RING_BYTES;
        self.interfaces.is_promiscuous = false;
    }

    /// What an endpoint has unless other options say something else.
    pub(super) fn complete_endpoint(&mut self) {
        if !self.is_endpoint {
            return;
        }
        if self.interfaces.streams.is_empty() {
            self.interfaces.streams.push(FlowStream {
                interfaces: vec![NamedInterface::plain(ALL)],
                ..FlowStream::default()
            });
        }
        if self.outputs.is_empty() && self.clients.port == 0 {
            self.clients.port = PORT;
            self.clients.bind = Some(vec![IpAddr::from([127, 0, 0, 1])]);
        }
    }

    /// Whether captures are read, and no interfaces.
    pub(super) fn reads_captures(&self) -> bool {
        !(self.input.captures.is_empty()
            && self.input.folders.is_empty()
            && self.input.cisco.is_empty()
            && self.input.servers.is_empty())
    }

    /// Whether some of the captures are files.
    pub(super) fn reads_files(&self) -> bool {
        let is_file = |path: &PathBuf| path.as_os_str() != "-";
        self.input.captures.iter().any(is_file)
            || !(self.input.folders.is_empty() && self.input.cisco.is_empty())
    }

    /// `-e`: the sensor's id, and the interface behind a slash.
    pub(super) fn set_source_id(&mut self, what: &str, text: &str) -> Result<(), Failure> {
        let (id, interface) = id_and_interface(what, text)?;
        self.records.options.source_id = id;
        self.records.names_interfaces |= interface == Some("inf");
        self.records.options.interface =
            interface.filter(|name| *name != "inf").map_or([0; 4], short);
        Ok(())
    }

    /// The interface in the records of a stream.
    pub(super) fn interface_of(&self, stream: &FlowStream) -> [u8; 4] {
        match stream.interfaces.first() {
            Some(first) if self.records.names_interfaces => short(&first.name),
            _ => self.records.options.interface,
        }
    }

    /// `-C`: all data of protocols that control the network, for which packets must be whole.
    pub(super) const fn keep_control(&mut self) {
        self.flows.keeps_control = true;
        self.interfaces.snap_length = SNAP_LENGTH_MAX;
    }

    /// The ports whose flows keep all of their data.
    pub(super) fn control(&self) -> Option<ControlPorts> {
        let ports =
            || self.flows.control_ports.or_else(|| control::ports("-C", control::DEFAULT).ok());
        self.flows.keeps_control.then(ports).flatten()
    }

    /// The most bytes of data of each end that a record has.
    pub(super) const fn user_bytes_max(&self) -> usize {
        if self.flows.keeps_control { USER_BYTES_MAX } else { self.records.user_bytes }
    }

    /// `-U`: bytes of data, for which packets must be long enough.
    pub(super) fn set_user_bytes(&mut self, what: &str, text: &str) -> Result<(), Failure> {
        let bytes = number(what, text, 0, USER_BYTES_MAX as u64)?;
        self.records.user_bytes = bytes as usize;
        self.interfaces.snap_length = self.interfaces.snap_length.max(SNAP_LENGTH + bytes as u32);
        Ok(())
    }

    /// Packets must have so many bytes, unless `-s` says something else.
    pub(super) fn need_data(&mut self, snap_length: u32) {
        if !self.interfaces.has_snap_length {
            self.interfaces.snap_length = self.interfaces.snap_length.max(snap_length);
        }
    }

    /// `-s`: bytes of each packet.
    pub(super) fn set_snap_length(&mut self, what: &str, text: &str) -> Result<(), Failure> {
        self.interfaces.snap_length = match number(what, text, 0, u64::from(SNAP_LENGTH_MAX))? {
            // As for libpcap.
            0 => SNAP_LENGTH_MAX,
            length => length as u32,
        };
        self.interfaces.has_snap_length = true;
        Ok(())
    }

    /// `-S`: seconds, also a part of one.
    pub(super) fn set_interval(&mut self, what: &str, text: &str) -> Result<(), Failure> {
        let seconds = text.parse().ok().filter(|seconds| (0.001..=1e9).contains(seconds));
        let message = || format!("{what} needs seconds from 0.001 on, not `{text}`");
        let seconds: f64 = seconds.ok_or_else(|| mistake(message()))?;
        self.records.status_interval_ns = (seconds * 1e9) as i64;
        Ok(())
    }

    /// `-M`: seconds.
    pub(super) fn set_management(&mut self, what: &str, text: &str) -> Result<(), Failure> {
        self.records.management_interval_s = number(what, text, 1, 0xffff)? as u16;
        Ok(())
    }

    /// `-T`: seconds of the capture in one second.
    pub(super) fn set_time_scale(&mut self, what: &str, text: &str) -> Result<(), Failure> {
        let scale = text.parse().ok().filter(|scale| (1e-6..=1e6).contains(scale));
        let message = || format!("{what} needs a factor above 0, not `{text}`");
        self.input.time_scale = Some(scale.ok_or_else(|| mistake(message()))?);
        Ok(())
    }

    /// `-P`: the port for clients.
    pub(super) fn set_port(&mut self, what: &str, text: &str) -> Result<(), Failure> {
        self.clients.port = number(what, text, 0, 0xffff)? as u16;
        Ok(())
    }

    /// `-B`: addresses at which clients connect.
    pub(super) fn add_bind(&mut self, what: &str, text: &str) -> Result<(), Failure> {
        let bind = self.clients.bind.get_or_insert_default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.parse() {
                Ok(address) => bind.push(address),
                Err(_) if word == "any" => bind.clear(),
                Err(_) => {
                    return Err(mistake(format!("{what} needs addresses, not `{word}`")));
                }
            }
        }
        Ok(())
    }

    /// `-w`: a file, standard output or a stream, and its filter.
    pub(super) fn add_output(
        &mut self,
        what: &str,
        to: &str,
        filter: Option<&str>,
    ) -> Result<(), Failure> {
        if let Some(path) = to.strip_prefix("parquet:") {
            if matches!(path, "" | "-") {
                return Err(mistake(format!("{what}: parquet: needs a file")));
            }
            let (to, filter) = (Target::Parquet(path.into()), filter.map(str::to_owned));
            self.outputs.push(OutputRequest { to, form: FlowRecordForm::Json, filter });
            return Ok(());
        }
        let (form, to) = FlowRecordForm::of(to);
        let to = match to.split_once("://") {
            None if to == "-" => Target::StandardOutput,
            None if to.is_empty() => return Err(mistake(format!("{what} needs a file"))),
            None => Target::File(to.into()),
            Some(("argus-udp" | "udp", host)) => Target::Datagrams(address(what, host, PORT)?),
            Some(("ipfix", host)) if form == FlowRecordForm::Argus => {
                Target::Ipfix(address(what, host, IPFIX_PORT)?)
            }
            Some((scheme, _)) => {
                return Err(mistake(format!(
                    "{what}: streams are argus-udp:// and ipfix://, not `{scheme}://`"
                )));
            }
        };
        let filter = filter.map(str::to_owned);
        self.outputs.push(OutputRequest { to, form, filter });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_a_host_and_a_port() {
        let target = |to: &str| {
            let mut request = FlowRequest::default();
            request.add_output("-w", to, None).map_err(|failure| failure.to_string())?;
            Ok::<_, String>(request.outputs.remove(0).to)
        };
        let datagrams = |address: &str| Ok(Target::Datagrams(address.parse().expect("address")));
        assert_eq!(target("argus-udp://"), datagrams("127.0.0.1:561"));
        assert_eq!(target("argus-udp://10.1.0.1"), datagrams("10.1.0.1:561"));
        assert_eq!(target("argus-udp://224.0.20.21:9995"), datagrams("224.0.20.21:9995"));
        assert_eq!(target("udp://[::1]:7"), datagrams("[::1]:7"));
        assert_eq!(target("argus-udp://[::1]"), datagrams("[::1]:561"));
        assert_eq!(target("ipfix://10.1.0.1"), Ok(Target::Ipfix(([10, 1, 0, 1], 4739).into())));
        assert_eq!(target("-"), Ok(Target::StandardOutput));
        assert_eq!(target("/var/log/a"), Ok(Target::File("/var/log/a".into())));
        assert!(target("http://x").is_err_and(|text| text.contains("not `http://`")));
        assert!(target("json:ipfix://x").is_err());
    }

    #[test]
    fn a_prefix_names_the_form() {
        let output = |to: &str| {
            let mut request = FlowRequest::default();
            request.add_output("-w", to, None).expect(to);
            request.outputs.remove(0)
        };
        let file =
            |path: &str, form| OutputRequest { to: Target::File(path.into()), form, filter: None };
        assert_eq!(output("json:a.json"), file("a.json", FlowRecordForm::Json));
        assert_eq!(output("argus5:./json:x"), file("./json:x", FlowRecordForm::Argus5));
        assert_eq!(output("a:b"), file("a:b", FlowRecordForm::Argus));
        let standard =
            OutputRequest { to: Target::StandardOutput, form: FlowRecordForm::Json, filter: None };
        assert_eq!(output("json:-"), standard);
        let columns = OutputRequest { to: Target::Parquet("x".into()), ..standard };
        assert_eq!(output("parquet:x"), columns);
        assert!(FlowRequest::default().add_output("-w", "parquet:-", None).is_err());
    }
}
