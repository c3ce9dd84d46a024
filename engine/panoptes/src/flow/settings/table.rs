//! The rows: each option and each variable once, in the order of the help text.
//!
//! The facts about variables are those of argus.conf(5) and of `ArgusParseResourceFile`
//! (`argus/argus.c` of argus 3.0.8).

use super::CommandLineEffect::{Bytes, Captures, Configuration, Folder, ShownOnly};
use super::FlowSettingEffect::{Act, CommandLine, Interfaces, Output, SensorId, Switch, Text};
use super::OptionSwitch::{Off, On, Toggle};
use super::effects::{beside, set_flow_key, set_flow_type, set_ring_bytes, set_timeout};
use super::{FlowSetting, FlowSettingGroup, IgnoredVariable, OtherValues};
use crate::flow::applications::{self, application_names};
use crate::flow::labels::LabelTable;
use crate::flow::request::{Alerts, FlowRequest};
use crate::flow::values::{mistake, number, range};
use crate::flow::{control, threads};

pub(super) const GROUPS: &[FlowSettingGroup] = &[
    FlowSettingGroup { heading: "Input", settings: INPUT },
    FlowSettingGroup { heading: "Output", settings: OUTPUT },
    FlowSettingGroup { heading: "Records", settings: RECORDS },
    FlowSettingGroup { heading: "Idle flows", settings: IDLE_FLOWS },
    FlowSettingGroup { heading: "Memory", settings: MEMORY },
    FlowSettingGroup { heading: "Process", settings: PROCESS },
];

const INPUT: &[FlowSetting] = &[
    FlowSetting {
        usage: "-i NAME...",
        variables: &["INTERFACE"],
        help: "Audit these network interfaces, as one link; `-i NAME/ID` gives records this id; \
               also `ind:A/ID,B/ID` (flows of their own, as with several -i), `dup:A,B/ID`, \
               `bond:A,B/ID`, `all`, `any`; without -i and -r: the first interface that is up. For \
               a NAME, `xdp:NAME` takes what it receives away from this machine: for ports of a \
               mirror. `udp:ADDRESS:PORT` receives what is mirrored there in datagrams, without \
               root; its port tells how, or `vxlan:`, `geneve:`, `gre:` or `tzsp:` in place of \
               `udp:`",
        effect: Interfaces,
    },
    FlowSetting {
        usage: "--endpoint",
        variables: &[],
        help: "Audit this machine in at most 16 MiB, with no configuration: all interfaces that \
               are up, 4096 flows; clients connect to 127.0.0.1:561 if there is no other output",
        effect: Act(FlowRequest::become_endpoint),
    },
    FlowSetting {
        usage: "-p",
        variables: &["GO_PROMISCUOUS"],
        help: "Leave interfaces out of promiscuous mode",
        effect: Switch(Off, |request| &mut request.interfaces.is_promiscuous),
    },
    FlowSetting {
        usage: "-s BYTES",
        variables: &[],
        help: "Take this many bytes of each packet (256)",
        effect: Text(FlowRequest::set_snap_length),
    },
    FlowSetting {
        usage: "-r FILE...",
        variables: &[],
        help: "Read these captures, in the order of their names; `-` is standard input. Formats: \
               pcap, pcapng, snoop, ERF; plain, or compressed by gzip, xz, zstd or lz4. Of \
               `cisco:FILE`, the flows that its packets export: NetFlow, IPFIX, sFlow. A folder: \
               its captures, in the order of their first packets. `tcp:HOST[:PORT]` connects to a \
               server that sends a capture (pcap-over-IP, port 57012)",
        effect: CommandLine(Captures),
    },
    FlowSetting {
        usage: "-R FOLDER",
        variables: &[],
        help: "Read all files below this folder, in order; without a folder: see -R below",
        effect: CommandLine(Folder),
    },
    FlowSetting {
        usage: "-t",
        variables: &[],
        help: "The captures are TSH",
        effect: Switch(On, |request| &mut request.input.as_tsh),
    },
    FlowSetting {
        usage: "-f",
        variables: &[],
        help: "At the end of a capture, wait for more: also for the next one of a folder, and for \
               a server to come back",
        effect: Switch(On, |request| &mut request.input.follows),
    },
    FlowSetting {
        usage: "-T FACTOR",
        variables: &[],
        help: "Read captures at the speed of their time stamps, times this factor",
        effect: Text(FlowRequest::set_time_scale),
    },
    FlowSetting {
        usage: "-N COUNT",
        variables: &[],
        help: "Read this many packets; FIRST-LAST reads that range, both included",
        effect: Text(|request, what, text| {
            request.input.packets = range(what, text)?;
            Ok(())
        }),
    },
    FlowSetting {
        usage: "- FILTER",
        variables: &["FILTER"],
        help: "Only packets that match this expression of pcap-filter(7), the last argument",
        effect: Text(|request, _, text| {
            request.input.filter = Some(text.to_owned()).filter(|text| !text.is_empty());
            Ok(())
        }),
    },
    FlowSetting {
        usage: "-O",
        variables: &["FILTER_OPTIMIZER"],
        help: "Leave the filter's program unoptimised",
        effect: Switch(Off, |request| &mut request.input.optimises),
    },
    FlowSetting {
        usage: "-b",
        variables: &[],
        help: "Print the filter's program and end",
        effect: Switch(On, |request| &mut request.input.prints_filter),
    },
    FlowSetting {
        usage: "",
        variables: &["PCAP_BUF_SIZE"],
        help: "Bytes of the ring of each interface, with K, M or G for powers of 1000 (32 MiB)",
        effect: Text(set_ring_bytes),
    },
    FlowSetting {
        usage: "",
        variables: &["TUNNEL_DISCOVERY"],
        help: "Open tunnels that only a UDP port shows: VXLAN, Geneve, GTP-U, L2TP, Teredo (yes)",
        effect: Switch(On, |request| &mut request.flows.discovers_tunnels),
    },
];

const OUTPUT: &[FlowSetting] = &[
    FlowSetting {
        usage: "-w TO",
        variables: &["OUTPUT_FILE", "OUTPUT_STREAM"],
        help: "Append argus(8) records to this file; `-` is standard output; \
               argus-udp://HOST[:PORT] sends each as a datagram; may be repeated. `json:TO` writes \
               JSON lines, `argus5:TO` argus(8) 5 records, `parquet:FILE` a file of columns; \
               ipfix://HOST[:PORT] sends IPFIX",
        effect: Output,
    },
    FlowSetting {
        usage: "-w TO FILTER",
        variables: &[],
        help: "Only records that match this expression of ra(1)",
        effect: CommandLine(ShownOnly),
    },
    FlowSetting {
        usage: "-P PORT",
        variables: &["ACCESS_PORT"],
        help: "Let clients connect at this port; argus(8)'s try 561. Not with -r, but for -T",
        effect: Text(FlowRequest::set_port),
    },
    FlowSetting {
        usage: "-B ADDRESS",
        variables: &["BIND_IP"],
        help: "... at these addresses only, separated by commas",
        effect: Text(FlowRequest::add_bind),
    },
    FlowSetting {
        usage: "--allow NETWORK",
        variables: &[],
        help: "... from these networks only, separated by commas",
        effect: Text(|request, what, text| {
            let access = text.parse().map_err(|why| mistake(format!("{what}: {why}")))?;
            request.clients.access = access;
            Ok(())
        }),
    },
    FlowSetting {
        usage: "-e ID",
        variables: &["MONITOR_ID"],
        help: "Identify this sensor: a number, an address, a host's name, '\"text\"' with up to \
               four characters, a UUID, or `hostuuid`; ID/inf adds the interface to argus(8) 5 \
               records",
        effect: SensorId,
    },
    FlowSetting {
        usage: "-S SECONDS",
        variables: &["FLOW_STATUS_INTERVAL"],
        help: "Report each flow at this interval; may be a fraction (5)",
        effect: Text(FlowRequest::set_interval),
    },
    FlowSetting {
        usage: "-M SECONDS",
        variables: &["MAR_STATUS_INTERVAL"],
        help: "Report the sensor's own state at this interval (300)",
        effect: Text(FlowRequest::set_management),
    },
    FlowSetting {
        usage: "",
        variables: &["MONITOR_ID_INCLUDE_INF"],
        help: "Add the name of the interface to argus(8) 5 records; a name in place of `yes` does \
               so, too (no)",
        effect: Text(|request, _, text| {
            request.records.names_interfaces = !text.eq_ignore_ascii_case("no");
            Ok(())
        }),
    },
];

const RECORDS: &[FlowSetting] = &[
    FlowSetting {
        usage: "-A",
        variables: &["GENERATE_APPBYTE_METRIC"],
        help: "Add the bytes behind the transport header",
        effect: Switch(On, |request| &mut request.records.options.application_bytes),
    },
    FlowSetting {
        usage: "-C",
        variables: &["CAPTURE_FULL_CONTROL_DATA"],
        help: "Add all data of protocols that control the network; takes whole packets",
        effect: Act(FlowRequest::keep_control),
    },
    FlowSetting {
        usage: "-J",
        variables: &["GENERATE_JITTER_DATA"],
        help: "Add the times between packets",
        effect: Switch(On, |request| &mut request.records.has_jitter),
    },
    FlowSetting {
        usage: "-m",
        variables: &["GENERATE_MAC_DATA"],
        help: "Add hardware addresses",
        effect: Switch(On, |request| &mut request.records.options.hardware),
    },
    FlowSetting {
        usage: "-R",
        variables: &[],
        help: "Add what response times derive from; records always have it",
        effect: CommandLine(ShownOnly),
    },
    FlowSetting {
        usage: "-U BYTES",
        variables: &["CAPTURE_DATA_LEN"],
        help: "Add the first bytes of the data of both ends",
        effect: Text(FlowRequest::set_user_bytes),
    },
    FlowSetting {
        usage: "-Z",
        variables: &["GENERATE_PACKET_SIZE"],
        help: "Add the sizes of the smallest and of the largest packets",
        effect: Switch(On, |request| &mut request.records.options.packet_sizes),
    },
    FlowSetting {
        usage: "--application LIST",
        variables: &[],
        help: concat!(
            "Add what data tell of applications, to JSON: `all`, or some of ",
            panoptes_records::applications!(application_names)
        ),
        effect: Text(applications::set_protocols),
    },
    FlowSetting {
        usage: "--sequence N",
        variables: &[],
        help: "Add sizes and times of the first N packets with data, up to 30, to JSON",
        effect: Text(applications::set_sequence),
    },
    FlowSetting {
        usage: "--passive-dns FILE",
        variables: &[],
        help: "Append the answers of DNS to this file, as JSON; implies --application dns",
        effect: Text(applications::set_passive_dns),
    },
    FlowSetting {
        usage: "--dns-servers LIST",
        variables: &[],
        help: "Mark answers of other servers than these, separated by commas; likewise",
        effect: Text(applications::set_dns_servers),
    },
    FlowSetting {
        usage: "--label FILE",
        variables: &[],
        help: "Label flows: lines `NETWORK TEXT` and `tcp/PORT TEXT`",
        effect: CommandLine(Bytes(|request, what, path| {
            request.records.labels = Some(LabelTable::read(what, path.as_ref())?.into());
            Ok(())
        })),
    },
    FlowSetting {
        usage: "--vni-in-key",
        variables: &[],
        help: "Packets of different overlays (VXLAN, Geneve, NVGRE, ERSPAN) are different flows",
        effect: Switch(On, |request| &mut request.flows.has_overlays),
    },
    FlowSetting {
        usage: "--flows N",
        variables: &[],
        help: "Track this many flows at once, in each group of interfaces (1000000)",
        effect: Text(|request, what, text| {
            request.flows.capacity = number(what, text, 1, (1 << 26) - 2)? as usize;
            Ok(())
        }),
    },
    FlowSetting {
        usage: "--threads N",
        variables: &[],
        help: "Divide the packets of interfaces and ports between this many threads, up to 16, by \
               their IP addresses (1); not for captures",
        effect: Text(threads::option::set),
    },
    FlowSetting {
        usage: "",
        variables: &["FLOW_KEY"],
        help: "`CLASSIC_5_TUPLE`; `LAYER_3_MATRIX`: packets between two IP addresses are one flow; \
               `LAYER_2_MATRIX`: hardware addresses and the Ethernet type. Flows of a matrix \
               follow no protocol: they have counters and times. The keys with VLAN, MPLS or a \
               part of a tuple are refused (CLASSIC_5_TUPLE)",
        effect: Text(set_flow_key),
    },
    FlowSetting {
        usage: "",
        variables: &["FLOW_TYPE"],
        help: "`Unidirectional`: each direction is a flow of its own, except of ARP \
               (Bidirectional)",
        effect: Text(set_flow_type),
    },
    FlowSetting {
        usage: "",
        variables: &["CONTROLPLANE_PROTO"],
        help: "The protocols of -C: names or numbers of ports, separated by commas; `udp:` or \
               `tcp:` before one leaves out the other",
        effect: Text(|request, what, text| {
            request.flows.control_ports = Some(control::ports(what, text)?);
            Ok(())
        }),
    },
];

const IDLE_FLOWS: &[FlowSetting] = &[
    FlowSetting {
        usage: "",
        variables: &["IP_TIMEOUT", "IGMP_TIMEOUT"],
        help: "Seconds until an idle flow of IP ends; IGMP has no timeout of its own (30)",
        effect: Text(|request, what, text| {
            set_timeout(&mut request.flows.timeouts.ip_ns, what, text, 1)
        }),
    },
    FlowSetting {
        usage: "",
        variables: &["TCP_TIMEOUT"],
        help: "... of TCP (60)",
        effect: Text(|request, what, text| {
            set_timeout(&mut request.flows.timeouts.tcp_ns, what, text, 1)
        }),
    },
    FlowSetting {
        usage: "",
        variables: &["TCP_FALLOW_TIMEOUT"],
        help: "For how many more seconds an idle connection of TCP is remembered. 0 forgets it (0)",
        effect: Text(|request, what, text| {
            set_timeout(&mut request.flows.timeouts.tcp_fallow_ns, what, text, 0)
        }),
    },
    FlowSetting {
        usage: "",
        variables: &["ICMP_TIMEOUT"],
        help: "... of ICMP (5)",
        effect: Text(|request, what, text| {
            set_timeout(&mut request.flows.timeouts.icmp_ns, what, text, 1)
        }),
    },
    FlowSetting {
        usage: "",
        variables: &["FRAG_TIMEOUT"],
        help: "... of fragments (5)",
        effect: Text(|request, what, text| {
            set_timeout(&mut request.flows.timeouts.fragment_ns, what, text, 1)
        }),
    },
    FlowSetting {
        usage: "",
        variables: &["ARP_TIMEOUT"],
        help: "... of ARP (5)",
        effect: Text(|request, what, text| {
            set_timeout(&mut request.flows.timeouts.arp_ns, what, text, 1)
        }),
    },
    FlowSetting {
        usage: "",
        variables: &["OTHER_TIMEOUT"],
        help: "... of other protocols (30)",
        effect: Text(|request, what, text| {
            set_timeout(&mut request.flows.timeouts.other_ns, what, text, 1)
        }),
    },
];

const MEMORY: &[FlowSetting] = &[
    FlowSetting {
        usage: "--system SYSTEM",
        variables: &[],
        help: "Watch the system whose packets these are: file:PATH, qemu:PID or the name of a \
               configured one. Records get the processes at both ends, and connections that its \
               kernel denies are alerts",
        effect: CommandLine(Bytes(|request, _, system| {
            system.clone_into(&mut beside(request).system);
            Ok(())
        })),
    },
    FlowSetting {
        usage: "--alerts FILE",
        variables: &[],
        help: "Append alerts to this file as JSON lines (standard output)",
        effect: CommandLine(Bytes(|request, _, path| {
            let is_standard_output = path == "-";
            beside(request).alerts =
                if is_standard_output { Alerts::StandardOutput } else { Alerts::File(path.into()) };
            Ok(())
        })),
    },
    FlowSetting {
        usage: "--config FILE",
        variables: &[],
        help: "Read the settings of the system from this configuration of Panoptes",
        effect: CommandLine(Bytes(|request, _, path| {
            beside(request).configuration = Some(path.into());
            Ok(())
        })),
    },
];

const PROCESS: &[FlowSetting] = &[
    FlowSetting {
        usage: "-d",
        variables: &["DAEMON"],
        help: "Run as a daemon",
        effect: Switch(Toggle, |request| &mut request.process.is_daemon),
    },
    FlowSetting {
        usage: "-c FOLDER",
        variables: &["CHROOT_DIR"],
        help: "Make this folder the root of all paths, once interfaces and ports are open",
        effect: Text(|request, _, text| {
            request.process.root = Some(text.into());
            Ok(())
        }),
    },
    FlowSetting {
        usage: "-u USER",
        variables: &["SETUSER_ID"],
        help: "... and become this user",
        effect: Text(|request, _, text| {
            request.process.user = Some(text.to_owned());
            Ok(())
        }),
    },
    FlowSetting {
        usage: "-g GROUP",
        variables: &["SETGROUP_ID"],
        help: "... and this group",
        effect: Text(|request, _, text| {
            request.process.group = Some(text.to_owned());
            Ok(())
        }),
    },
    FlowSetting {
        usage: "-F FILE",
        variables: &[],
        help: "Read this configuration (argus.conf), not /etc/argus.conf; later options override \
               it",
        effect: CommandLine(Configuration),
    },
    FlowSetting {
        usage: "-X",
        variables: &[],
        help: "Read no configuration, and forget what options before this one have set",
        effect: Act(FlowRequest::clear),
    },
    FlowSetting {
        usage: "-D LEVEL",
        variables: &["DEBUG_LEVEL"],
        help: "Print messages of this level (1 to 8); SIGUSR1 raises it, SIGUSR2 makes it 0",
        effect: Text(|request, what, text| {
            request.process.debug_level = number(what, text, 0, 8)? as u8;
            Ok(())
        }),
    },
    FlowSetting {
        usage: "-h",
        variables: &[],
        help: "Print this help",
        effect: CommandLine(ShownOnly),
    },
    FlowSetting {
        usage: "",
        variables: &["SET_PID"],
        help: "Write the PID file of a daemon: `argus.INTERFACE.0.pid` (yes)",
        effect: Switch(On, |request| &mut request.process.has_pid_file),
    },
    FlowSetting {
        usage: "",
        variables: &["PID_PATH"],
        help: "The folder of this file (/var/run)",
        effect: Text(|request, _, text| {
            request.process.pid_folder = text.into();
            Ok(())
        }),
    },
];

/// Variables that change nothing: other values than `values` ask for something that is not built.
pub(super) const IGNORED: &[IgnoredVariable] = &[
    IgnoredVariable {
        names: &[
            "HASHTABLE_SIZE",
            "INTERFACE_SCAN_INTERVAL",
            "LOG_DISPLAY_PRIORITY",
            "PCAP_DISPATCH_NUM",
        ],
        values: &[],
        others: OtherValues::Allowed,
        help: "They tune argus(8). Records are the same with each value",
    },
    IgnoredVariable {
        names: &["GENERATE_START_RECORDS", "SELF_SYNCHRONIZE", "TRACK_DUPLICATES"],
        values: &["no", "yes"],
        others: OtherValues::Warned,
        help: "Not supported",
    },
    IgnoredVariable {
        names: &["GENERATE_RESPONSE_TIME_DATA"],
        values: &["no", "yes"],
        others: OtherValues::Warned,
        help: "Records always have what response times derive from",
    },
    IgnoredVariable {
        names: &["GENERATE_TCP_PERF_METRIC"],
        values: &["yes"],
        others: OtherValues::Warned,
        help: "Records always have these data",
    },
    IgnoredVariable {
        names: &[
            "GENERATE_BIDIRECTIONAL_TIMESTAMPS",
            "GENERATE_HASH_METRICS",
            "JITTER_HISTOGRAM",
            "OS_FINGERPRINTING",
            "PACKET_CAPTURE_ON_ERROR",
            "PACKET_SIZE_HISTOGRAM",
        ],
        values: &["no"],
        others: OtherValues::Warned,
        help: "Not supported",
    },
    IgnoredVariable {
        names: &["ENV", "PACKET_CAPTURE_FILE"],
        values: &[""],
        others: OtherValues::Warned,
        help: "Not supported",
    },
    IgnoredVariable {
        names: &["COLLECTOR"],
        values: &["no", ""],
        others: OtherValues::Warned,
        help: "Not supported",
    },
    IgnoredVariable {
        names: &["EVENT_DATA"],
        values: &[""],
        others: OtherValues::Warned,
        help: "The sensor runs no programs, and any monitoring agent has the data that argus(8) \
               would copy from files",
    },
    IgnoredVariable {
        names: &["KEYSTROKE"],
        values: &["no"],
        others: OtherValues::Warned,
        help: "argus(8) guesses from the times of packets when somebody types, with thresholds \
               that differ from link to link",
    },
    IgnoredVariable {
        names: &["KEYSTROKE_CONF"],
        values: &[""],
        others: OtherValues::Warned,
        help: "The thresholds of ARGUS_KEYSTROKE",
    },
    IgnoredVariable {
        names: &["MIN_SSF"],
        values: &["", "0"],
        // A user who asks for protection must not get a port without it.
        others: OtherValues::Refused("SASL is not supported; set it to 0"),
        help: "The port would lack the protection that it asks for",
    },
    IgnoredVariable {
        names: &["MAX_SSF"],
        values: &["", "0"],
        others: OtherValues::Warned,
        help: "SASL is not supported",
    },
];
