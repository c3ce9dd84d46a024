//! `flows`: the sensor of network flows inside the service.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use panoptes_decoders::packet::link_type::{COOKED, ETHERNET, RAW, WIRELESS};
use panoptes_packet_filter::{FilterError, FilterOptions, PacketFilter};
use panoptes_packet_rings::{PARTS_MAX, is_name, mirror_of};
use panoptes_records::flow::SEQUENCE_PACKETS_MAX;
use panoptes_records::flow::application::ApplicationProtocol;
use panoptes_records::record::RECORD_BYTES_MAX;

use super::section::Section;
use super::value::{ByteSize, KeywordSetting, Setting};

/// The most threads that divide packets.
pub(crate) const FLOW_THREADS_MAX: u32 = 16;

/// What the sensor listens to, and what its records have.
#[expect(clippy::struct_excessive_bools, reason = "each is a key")]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flows {
    /// Each has flows of its own; empty: there is no sensor.
    pub interfaces: Vec<FlowInterfaces>,
    /// Which packets count; `None`: all.
    pub filter: Option<PacketExpression>,
    /// The name of the system whose packets these are.
    pub system: Option<String>,
    /// The protocols of which records have what data tell.
    pub application: Vec<FlowApplication>,
    /// The number of first packets with data whose sizes and times records have.
    pub sequence: Option<u32>,
    /// Whether records have the times between packets.
    pub jitter: bool,
    /// Whether records have the sizes of the smallest and of the largest packets.
    pub packet_sizes: bool,
    /// Whether records have hardware addresses.
    pub hardware_addresses: bool,
    /// How many of the first bytes of the data of both ends records have.
    pub user_data: Option<ByteSize>,
    /// The time from one record of a flow to the next.
    pub status_interval: Duration,
    /// The time from one record of the sensor's own state to the next.
    pub management_interval: Duration,
    /// How many flows are tracked at once, for each element of `interfaces`.
    pub flows: u32,
    /// Whether interfaces also receive what is addressed to others.
    pub promiscuous: bool,
    /// How many threads divide the packets.
    pub threads: u32,
}

/// Interfaces whose packets are in the same flows, as after `panoptes flow -i`: a name, or `dup:`
/// or `bond:` and several names; the id of records behind a slash. `udp:ADDRESS:PORT` and its like
/// stand for a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlowInterfaces(pub String);

/// A filter of packets: pcap-filter(7).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PacketExpression(pub String);

/// A protocol whose data are read, or all of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FlowApplication {
    All,
    One(ApplicationProtocol),
}

impl Default for Flows {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            filter: None,
            system: None,
            application: Vec::new(),
            sequence: None,
            jitter: false,
            packet_sizes: false,
            hardware_addresses: false,
            user_data: None,
            status_interval: Duration::from_secs(5),
            management_interval: Duration::from_mins(5),
            flows: 1_000_000,
            promiscuous: true,
            threads: 1,
        }
    }
}

impl FlowInterfaces {
    /// The names, and what stands for one.
    fn words(&self) -> impl Iterator<Item = &str> {
        FlowInterfaceSpec::of(&self.0).names.split(',')
    }

    fn has_port(&self) -> bool {
        self.words().any(is_port)
    }
}

/// Whether a word stands for a port of mirrors.
fn is_port(word: &str) -> bool {
    mirror_of(word).is_ok_and(|mirror| mirror.is_some())
}

impl FlowApplication {
    /// Its word.
    pub(crate) fn word(self) -> String {
        self.show()
    }
}

impl Flows {
    /// Whether there is a sensor.
    pub fn are_wanted(&self) -> bool {
        !self.interfaces.is_empty()
    }

    /// Whether it listens to interfaces, which takes capabilities, and not to ports of mirrors
    /// alone.
    pub fn have_interfaces(&self) -> bool {
        self.interfaces.iter().any(|one| !one.words().all(is_port))
    }

    pub(super) fn read(&mut self, section: &mut Section<'_>) {
        section.values("interfaces", &mut self.interfaces);
        section.value("filter", &mut self.filter);
        section.value("system", &mut self.system);
        section.values("application", &mut self.application);
        section.value_in("sequence", &mut self.sequence, Some(1)..=Some(SEQUENCE_MAX));
        section.value("jitter", &mut self.jitter);
        section.value("packet_sizes", &mut self.packet_sizes);
        section.value("hardware_addresses", &mut self.hardware_addresses);
        section.value_in("user_data", &mut self.user_data, Some(ByteSize(1))..=USER_DATA_MAX);
        section.value_in("status_interval", &mut self.status_interval, STATUS_MIN..=STATUS_MAX);
        section.value_in(
            "management_interval",
            &mut self.management_interval,
            MANAGEMENT_MIN..=MANAGEMENT_MAX,
        );
        section.value_in("flows", &mut self.flows, 1..=FLOWS_MAX);
        section.value("promiscuous", &mut self.promiscuous);
        section.value_in("threads", &mut self.threads, 1..=FLOW_THREADS_MAX);
        if self.threads > 1 && self.interfaces.iter().any(FlowInterfaces::has_port) {
            let key = section.full("threads");
            let message = format!("`{key}`: a port of mirrors is for one thread alone; write 1");
            section.refuse("threads", message);
        }
        if !self.are_wanted() && *self != Self::default() {
            let key = section.full("interfaces");
            let message = format!("without `{key}`, nothing of this section has an effect");
            section.warn("interfaces", message);
        }
    }

    /// Refuses a system that nobody watches. `names` are those of all systems; with `auto_scan`,
    /// guests have further ones.
    pub(super) fn check_system(&self, names: &[&str], auto_scan: bool, section: &Section<'_>) {
        let Some(system) = &self.system else { return };
        if auto_scan || names.contains(&system.as_str()) {
            return;
        }
        let key = section.full("system");
        let advice = match names {
            [] => ", which is empty".to_owned(),
            _ => format!("; {}", super::section::advice(system, names)),
        };
        let system = super::printable(system);
        section.refuse("system", format!("`{key}`: `{system}` is none of `systems`{advice}"));
    }
}

/// As many as records have room for.
const SEQUENCE_MAX: u32 = SEQUENCE_PACKETS_MAX as u32;
/// Bytes of data of each end.
const FLOW_DATA_BYTES_MAX: u64 = 4 << 10;
const USER_DATA_MAX: Option<ByteSize> = Some(ByteSize(FLOW_DATA_BYTES_MAX));
const STATUS_MIN: Duration = Duration::from_millis(1);
const STATUS_MAX: Duration = Duration::from_hours(24);
const MANAGEMENT_MIN: Duration = Duration::from_secs(1);
/// Records of it have 16 bits for the seconds.
const MANAGEMENT_MAX: Duration = Duration::from_hours(18);
const _: () = {
    // Base64 makes three bytes four.
    let data = 2 * 4 * FLOW_DATA_BYTES_MAX.div_ceil(3);
    assert!(data < RECORD_BYTES_MAX as u64 / 2, "data of both ends leave half of a record");
    assert!(MANAGEMENT_MAX.as_secs() <= u16::MAX as u64);
    assert!(FLOW_THREADS_MAX as usize <= PARTS_MAX, "each thread has a part of the packets");
};
/// Places in the tables have 26 bits.
const FLOWS_MAX: u32 = (1 << 26) - 2;

/// Link types for which a filter may be.
const LINKS: [u16; 4] = [ETHERNET, RAW, WIRELESS, COOKED];

/// Whether records can have such an id: a number, or an address.
fn is_id(text: &str) -> bool {
    text.parse::<u32>().is_ok() || text.parse::<IpAddr>().is_ok()
}

/// Checks a filter; the reason is libpcap's.
fn check_filter(expression: &str) -> Result<(), String> {
    let compile = |link| PacketFilter::compile(expression, &FilterOptions::new(link)).map(drop);
    let [first, others @ ..] = LINKS;
    let Err(error) = compile(first) else { return Ok(()) };
    if others.into_iter().any(|link| compile(link).is_ok()) {
        return Ok(());
    }
    Err(match error {
        FilterError::Expression { message, .. } => message,
        error => error.to_string(),
    })
}

/// What an element of `interfaces` consists of.
struct FlowInterfaceSpec<'a> {
    /// Between commas.
    names: &'a str,
    is_group: bool,
    id: &'a str,
}

impl<'a> FlowInterfaceSpec<'a> {
    fn of(text: &'a str) -> Self {
        let (names, id) = text.rsplit_once('/').unwrap_or((text, "0"));
        let group = names.strip_prefix("dup:").or_else(|| names.strip_prefix("bond:"));
        Self { names: group.unwrap_or(names), is_group: group.is_some(), id }
    }
}

impl Setting for FlowInterfaces {
    const FORM: &'static str = "interface";

    fn show(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let text = String::read(text, base)?;
        if text.contains("xdp:") {
            let why = "takes packets away from this machine; start `panoptes flow` for that";
            return Err(why.to_owned());
        }
        let FlowInterfaceSpec { names, is_group, id } = FlowInterfaceSpec::of(&text);
        let mut are_names = is_id(id);
        for word in names.split(',') {
            let is_port = mirror_of(word).map_err(|error| error.to_string())?.is_some();
            are_names &= is_port || is_name(word);
        }
        are_names &= is_group || !names.contains(',');
        if are_names {
            return Ok(Self(text));
        }
        Err("is no interface; write a name, or several such as dup:en0,en1".to_owned())
    }
}

impl Setting for PacketExpression {
    const FORM: &'static str = "filter of tcpdump";

    fn show(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let text = String::read(text, base)?;
        match check_filter(&text) {
            Ok(()) => Ok(Self(text)),
            Err(why) => Err(format!("is no filter of packets: {why}")),
        }
    }
}

macro_rules! words {
    ($($name:ident: $protocol:ident($facts:ty),)+) => {
        &[
            ("all", FlowApplication::All),
            $((stringify!($name), FlowApplication::One(ApplicationProtocol::$protocol)),)+
        ]
    };
}

impl KeywordSetting for FlowApplication {
    const WORDS: &'static [(&'static str, Self)] = panoptes_records::applications!(words);
}
