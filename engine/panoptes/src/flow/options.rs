//! The options of argus(8), read as getopt(3) does.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;

use super::applications::application_names;
use super::labels::LabelTable;
use super::origin::Server;
use super::request::{Alerts, FlowRecordForm, FlowRequest, OutputRequest, Target};
use super::values::{mistake, number, range};
use super::{applications, configuration, devices, threads};
use crate::exit::Failure;

/// The options, for the help text and for the manual.
pub(crate) const HELP: &str = concat!(
    "\
Input:
  -i NAME...  Audit these network interfaces, as one link; `-i NAME/ID` gives records this id; also
              `ind:A/ID,B/ID` (flows of their own, as with several -i), `dup:A,B/ID`, `bond:A,B/ID`,
              `all`, `any`; without -i and -r: the first interface that is up. For a NAME,
              `xdp:NAME` takes what it receives away from this machine: for ports of a mirror.
              `udp:ADDRESS:PORT` receives what is mirrored there in datagrams, without root; its
              port tells how, or `vxlan:`, `geneve:`, `gre:` or `tzsp:` in place of `udp:`
  --endpoint  Audit this machine in at most 16 MiB, with no configuration: all interfaces that are
              up, 4096 flows; clients connect to 127.0.0.1:561 if there is no other output
  -p          Leave interfaces out of promiscuous mode
  -s BYTES    Take this many bytes of each packet (256)
  -r FILE...  Read these captures, in the order of their names; `-` is standard input. Formats:
              pcap, pcapng, snoop, ERF; plain, or compressed by gzip, xz, zstd or lz4. Of
              `cisco:FILE`, the flows that its packets export: NetFlow, IPFIX, sFlow. A folder: its
              captures, in the order of their first packets. `tcp:HOST[:PORT]` connects to a server
              that sends a capture (pcap-over-IP, port 57012)
  -R FOLDER   Read all files below this folder, in order; without a folder: see -R below
  -t          The captures are TSH
  -f          At the end of a capture, wait for more: also for the next one of a folder, and for a
              server to come back
  -T FACTOR   Read captures at the speed of their time stamps, times this factor
  -N COUNT    Read this many packets; FIRST-LAST reads that range, both included
  - FILTER    Only packets that match this expression of pcap-filter(7), the last argument
  -O          Leave the filter's program unoptimised
  -b          Print the filter's program and end

Output:
  -w TO       Append argus(8) records to this file; `-` is standard output; argus-udp://HOST[:PORT]
              sends each as a datagram; may be repeated. `json:TO` writes JSON lines, `argus5:TO`
              argus(8) 5 records, `parquet:FILE` a file of columns; ipfix://HOST[:PORT] sends IPFIX
  -w TO FILTER  Only records that match this expression of ra(1)
  -P PORT     Let clients connect at this port; argus(8)'s try 561. Not with -r, but for -T
  -B ADDRESS  ... at these addresses only, separated by commas
  --allow NETWORK  ... from these networks only, separated by commas
  -e ID       Identify this sensor: a number, an address, a host's name, '\"text\"' with up to four
              characters, a UUID, or `hostuuid`; ID/inf adds the interface to argus(8) 5 records
  -S SECONDS  Report each flow at this interval; may be a fraction (5)
  -M SECONDS  Report the sensor's own state at this interval (300)

Records:
  -A          Add the bytes behind the transport header
  -C          Add all data of protocols that control the network; takes whole packets
  -J          Add the times between packets
  -m          Add hardware addresses
  -R          Add what response times derive from; records always have it
  -U BYTES    Add the first bytes of the data of both ends
  -Z          Add the sizes of the smallest and of the largest packets
  --application LIST  Add what data tell of applications, to JSON: `all`, or some of
              ",
    panoptes_records::applications!(application_names),
    "
  --sequence N  Add sizes and times of the first N packets with data, up to 30, to JSON
  --passive-dns FILE  Append the answers of DNS to this file, as JSON; implies --application dns
  --dns-servers LIST  Mark answers of other servers than these, separated by commas; likewise
  --label FILE  Label flows: lines `NETWORK TEXT` and `tcp/PORT TEXT`
  --vni-in-key  Packets of different overlays (VXLAN, Geneve, NVGRE, ERSPAN) are different flows
  --flows N   Track this many flows at once, in each group of interfaces (1000000)
  --threads N  Divide the packets of interfaces and ports between this many threads, up to 16, by
              their IP addresses (1); not for captures

Memory:
  --system SYSTEM  Watch the system whose packets these are: file:PATH, qemu:PID or the name of a
              configured one. Records get the processes at both ends, and connections that its
              kernel denies are alerts
  --alerts FILE  Append alerts to this file as JSON lines (standard output)
  --config FILE  Read the settings of the system from this configuration of Panoptes

Process:
  -d          Run as a daemon
  -c FOLDER   Make this folder the root of all paths, once interfaces and ports are open
  -u USER     ... and become this user
  -g GROUP    ... and this group
  -F FILE     Read this configuration (argus.conf), not /etc/argus.conf; later options override it
  -X          Read no configuration, and forget what options before this one have set
  -D LEVEL    Print messages of this level (1 to 8); SIGUSR1 raises it, SIGUSR2 makes it 0
  -h          Print this help

SIGHUP, SIGINT and SIGTERM end the program; it writes all active flows first.

Exit codes: 0 done, 2 wrong command line, 65 a capture is damaged, 66 a source can't be opened, 74
output failed, 77 permission denied, 78 the configuration is wrong.
"
);

/// What the user wants.
pub(super) enum ArgusCommand {
    Help,
    Audit(Box<FlowRequest>),
}

/// The arguments that are left.
struct RemainingArguments<'a> {
    arguments: std::iter::Peekable<std::slice::Iter<'a, OsString>>,
}

impl<'a> RemainingArguments<'a> {
    /// The next argument if it is no option; `-` alone is none.
    fn operand(&mut self) -> Option<&'a OsStr> {
        let is_operand = |word: &&'a OsString| !word.as_bytes().starts_with(b"-");
        self.arguments.next_if(is_operand).map(OsString::as_os_str)
    }

    /// The value of an option: what follows its letter, or the next argument.
    fn value(&mut self, option: &str, attached: &'a [u8]) -> Result<&'a OsStr, Failure> {
        if !attached.is_empty() {
            return Ok(OsStr::from_bytes(attached));
        }
        let next = self.arguments.next().map(OsString::as_os_str);
        next.ok_or_else(|| mistake(format!("{option} needs a value")))
    }
}

/// What options of the command line replace of a configuration, when the first one comes.
#[derive(Default)]
struct ReplacedSettings {
    streams: bool,
    outputs: bool,
}

/// Reads the arguments behind the program's name. `default` is the configuration that is read
/// unless -X, -F or --endpoint is there.
pub(super) fn parse(arguments: &[OsString], default: &str) -> Result<ArgusCommand, Failure> {
    let mut request = FlowRequest::default();
    if !names_configuration(arguments) {
        configuration::read_if_there(default, &mut request)?;
    }
    let mut replaced = ReplacedSettings::default();
    let mut rest = RemainingArguments { arguments: arguments.iter().peekable() };
    while let Some(argument) = rest.arguments.next() {
        match argument.as_bytes() {
            b"-" | b"--" => set_filter(&mut request, rest.arguments.by_ref())?,
            b"-h" | b"--help" => return Ok(ArgusCommand::Help),
            b"--endpoint" => request.become_endpoint(),
            b"--vni-in-key" => request.flows.has_overlays = true,
            b"--flows" => {
                let value = text(rest.value("--flows", &[])?, "--flows")?;
                request.flows.capacity = number("--flows", value, 1, (1 << 26) - 2)? as usize;
            }
            b"--threads" => {
                threads::option::set(
                    &mut request,
                    text(rest.value("--threads", &[])?, "--threads")?,
                )?;
            }
            b"--label" => {
                let path = rest.value("--label", &[])?;
                request.records.labels = Some(LabelTable::read("--label", path.as_ref())?.into());
            }
            b"--allow" => {
                let value = text(rest.value("--allow", &[])?, "--allow")?;
                let access = value.parse().map_err(|why| mistake(format!("--allow: {why}")))?;
                request.clients.access = access;
            }
            b"--system" | b"--alerts" | b"--config" => {
                let option = text(argument, "an option")?;
                let value = rest.value(option, &[])?;
                beside(option, value, &mut request);
            }
            word if word.starts_with(b"--") => {
                let option = text(argument, "an option")?;
                let set = match option {
                    "--application" => applications::set_protocols,
                    "--dns-servers" => applications::set_dns_servers,
                    "--passive-dns" => applications::set_passive_dns,
                    "--sequence" => applications::set_sequence,
                    _ => return Err(mistake(format!("unknown option `{option}`"))),
                };
                set(&mut request, option, text(rest.value(option, &[])?, option)?)?;
            }
            [b'-', letters @ ..] => {
                read_letters(letters, &mut rest, &mut request, &mut replaced)?;
            }
            _ => {
                let words = std::iter::once(argument).chain(rest.arguments.by_ref());
                set_filter(&mut request, words)?;
            }
        }
    }
    check(request).map(|request| ArgusCommand::Audit(Box::new(request)))
}

/// Whether an option decides which configuration is read.
fn names_configuration(arguments: &[OsString]) -> bool {
    let end = arguments.iter().position(|word| word == "-" || word == "--");
    let options = &arguments[..end.unwrap_or(arguments.len())];
    options.iter().any(|word| match word.as_bytes() {
        b"--endpoint" => true,
        [b'-', letters @ ..] if !letters.starts_with(b"-") => {
            let flags = letters.split(|letter| VALUED.contains(letter)).next();
            let has = |letter: u8| flags.is_some_and(|flags| flags.contains(&letter));
            has(b'X') || letters.first() == Some(&b'F')
        }
        _ => false,
    })
}

/// Letters that have a value.
const VALUED: &[u8] = b"BcDeFgiMNPrSsTuUw";

/// The rest of the command line is the filter of packets.
fn set_filter<'a>(
    request: &mut FlowRequest,
    words: impl Iterator<Item = &'a OsString>,
) -> Result<(), Failure> {
    let words = words.map(|word| text(word, "a filter")).collect::<Result<Vec<_>, _>>()?;
    if !words.is_empty() {
        request.input.filter = Some(words.join(" "));
    }
    Ok(())
}

/// Reads an argument of letters: the first one that has a value takes the rest.
fn read_letters<'a>(
    mut letters: &'a [u8],
    rest: &mut RemainingArguments<'a>,
    request: &mut FlowRequest,
    replaced: &mut ReplacedSettings,
) -> Result<(), Failure> {
    while let Some((&letter, attached)) = letters.split_first() {
        letters = attached;
        match letter {
            b'A' => request.records.options.application_bytes = true,
            b'b' => request.input.prints_filter = true,
            b'C' => request.keep_control(),
            b'd' => request.process.is_daemon = !request.process.is_daemon,
            b'f' => request.input.follows = true,
            b'J' => request.records.has_jitter = true,
            b'm' => request.records.options.hardware = true,
            b'O' => request.input.optimises = false,
            b'p' => request.interfaces.is_promiscuous = false,
            b'Z' => request.records.options.packet_sizes = true,
            b't' => request.input.as_tsh = true,
            b'X' => request.clear(),
            b'R' => {
                // The manual's own example has a folder here.
                if let Some(folder) = attached.is_empty().then(|| rest.operand()).flatten() {
                    request.input.folders.push(folder.into());
                }
            }
            _ if VALUED.contains(&letter) => {
                let option = format!("-{}", char::from(letter));
                let value = rest.value(&option, attached)?;
                return with_value(letter, &option, value, rest, request, replaced);
            }
            _ => {
                let letter = char::from(letter).escape_default();
                return Err(mistake(format!("unknown option `-{letter}`; -h lists the options")));
            }
        }
    }
    Ok(())
}

fn with_value<'a>(
    letter: u8,
    option: &str,
    value: &'a OsStr,
    rest: &mut RemainingArguments<'a>,
    request: &mut FlowRequest,
    replaced: &mut ReplacedSettings,
) -> Result<(), Failure> {
    if letter == b'r' {
        return captures(option, value, rest, request);
    }
    let value = text(value, option)?;
    match letter {
        b'B' => request.add_bind(option, value)?,
        b'c' => request.process.root = Some(value.into()),
        b'D' => request.process.debug_level = number(option, value, 0, 8)? as u8,
        b'e' => request.set_source_id(option, value)?,
        b'F' => configuration::read(value, request)?,
        b'g' => request.process.group = Some(value.to_owned()),
        b'u' => request.process.user = Some(value.to_owned()),
        b'M' => request.set_management(option, value)?,
        b'N' => request.input.packets = range(option, value)?,
        b'P' => request.set_port(option, value)?,
        b'S' => request.set_interval(option, value)?,
        b's' => request.set_snap_length(option, value)?,
        b'T' => request.set_time_scale(option, value)?,
        b'U' => request.set_user_bytes(option, value)?,
        b'i' => {
            if !std::mem::replace(&mut replaced.streams, true) {
                request.interfaces.streams.clear();
            }
            let mut words = value.to_owned();
            while let Some(word) = rest.operand() {
                words = format!("{words} {}", text(word, option)?);
            }
            request.interfaces.streams.extend(devices::parse(option, &words)?);
        }
        _ => {
            if !std::mem::replace(&mut replaced.outputs, true) {
                request.outputs.clear();
            }
            let filter = rest.operand().map(|filter| text(filter, option)).transpose()?;
            request.add_output(option, value, filter)?;
        }
    }
    Ok(())
}

/// Takes an option about the system whose packets these are.
fn beside(option: &str, value: &OsStr, request: &mut FlowRequest) {
    let beside = request.beside.get_or_insert_default();
    match option {
        "--system" => value.clone_into(&mut beside.system),
        "--config" => beside.configuration = Some(value.into()),
        _ if value == "-" => beside.alerts = Alerts::StandardOutput,
        _ => beside.alerts = Alerts::File(value.into()),
    }
}

/// Takes the captures of one `-r`.
fn captures<'a>(
    option: &str,
    value: &'a OsStr,
    rest: &mut RemainingArguments<'a>,
    request: &mut FlowRequest,
) -> Result<(), Failure> {
    let mut next = Some(value);
    while let Some(file) = next {
        let prefixed = |prefix: &str| file.as_bytes().strip_prefix(prefix.as_bytes());
        if let Some(path) = prefixed("cisco:") {
            request.input.cisco.push(OsStr::from_bytes(path).into());
        } else if let Some(server) = prefixed("tcp:") {
            let server = text(OsStr::from_bytes(server), option)?;
            request.input.servers.push(Server::parse(option, server)?);
        } else {
            request.input.captures.push(file.into());
        }
        next = rest.operand();
    }
    Ok(())
}

/// Checks what only the whole shows.
fn check(mut request: FlowRequest) -> Result<FlowRequest, Failure> {
    request.complete_endpoint();
    let reads_captures = request.reads_captures();
    if reads_captures && !request.interfaces.streams.is_empty() {
        request.interfaces.streams.clear();
    }
    if !reads_captures && request.input.follows {
        return Err(mistake("-f is for captures: add `-r FILE`"));
    }
    if !reads_captures && request.input.time_scale.is_some() {
        return Err(mistake("-T is for captures: add `-r FILE`"));
    }
    if reads_captures && request.input.time_scale.is_none() {
        // argus(8): no clients and no daemon with -r.
        (request.clients.port, request.process.is_daemon) = (0, false);
    }
    if request.input.prints_filter {
        return Ok(request);
    }
    threads::option::check(&request)?;
    if let Some(to) = request.records.passive_dns.clone() {
        request.outputs.push(OutputRequest { to, form: FlowRecordForm::PassiveDns, filter: None });
    }
    if request.outputs.is_empty() && request.clients.port == 0 {
        return Err(mistake(
            "nowhere to write: add `-w FILE`, `-w -` for standard output, or `-P 561` for clients",
        ));
    }
    let to_standard_output = |output: &&OutputRequest| output.to == Target::StandardOutput;
    if let Some(beside) = &request.beside {
        if beside.system.is_empty() {
            return Err(mistake("--alerts and --config need a system: add `--system SYSTEM`"));
        }
        let to_standard_output = request.process.is_daemon
            || request.outputs.iter().any(|output| to_standard_output(&output));
        if to_standard_output && beside.alerts == Alerts::StandardOutput {
            return Err(mistake("--system: alerts need a place of their own: add `--alerts FILE`"));
        }
    }
    if let Some(output) = request.outputs.iter().find(to_standard_output) {
        if request.process.is_daemon {
            return Err(mistake("-d: a daemon has no standard output for `-w -`"));
        }
        let is_binary = matches!(output.form, FlowRecordForm::Argus | FlowRecordForm::Argus5);
        if is_binary && io::stdout().is_terminal() {
            return Err(mistake(
                "argus(8) records are binary: send standard output to `ra -r -` or a file",
            ));
        }
    }
    request.input.captures.sort();
    request.input.cisco.sort();
    Ok(request)
}

fn text<'a>(value: &'a OsStr, option: &str) -> Result<&'a str, Failure> {
    value.to_str().ok_or_else(|| mistake(format!("{option} needs text, not {}", value.display())))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use panoptes_sinks::flow::argus::{ArgusOptions, SourceId};

    use super::*;

    fn parsed(line: &str) -> Result<FlowRequest, String> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        match parse(&words, "/nonexistent") {
            Ok(ArgusCommand::Audit(request)) => Ok(*request),
            Ok(ArgusCommand::Help) => Err("help".to_owned()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    fn file(path: &str, filter: Option<&str>) -> OutputRequest {
        let to = Target::File(path.into());
        OutputRequest { to, form: FlowRecordForm::Argus, filter: filter.map(str::to_owned) }
    }

    #[test]
    fn options_are_read_as_getopt_does() {
        let request = parsed("-XAJm -Z -U64 -S 0.5 -M60 -N 5-9 -e \"ab1\" -r b.pcap a.pcap -w out");
        let mut expected =
            FlowRequest { outputs: vec![file("out", None)], ..FlowRequest::default() };
        expected.input.captures = vec!["a.pcap".into(), "b.pcap".into()];
        expected.input.packets = (5, 9);
        expected.records.status_interval_ns = 500_000_000;
        expected.records.management_interval_s = 60;
        expected.records.options = ArgusOptions {
            source_id: SourceId::Text(*b"ab1\0"),
            application_bytes: true,
            hardware: true,
            packet_sizes: true,
            ..ArgusOptions::default()
        };
        expected.records.has_jitter = true;
        expected.records.user_bytes = 64;
        expected.interfaces.snap_length = 320;
        assert_eq!(request, Ok(expected));
    }

    #[test]
    fn options_of_a_sensor_are_read() {
        let line = "-i eth0/7 -p -s 128 -P 561 -B 127.0.0.1,::1 --allow 10.0.0.0/8 -d -c /srv \
                    -u nobody -g nogroup -D3 -O -w a tcp -w b ether host 1:2:3:4:5:6";
        let request = parsed(line).expect("a request");
        let mut expected = FlowRequest {
            outputs: vec![file("a", Some("tcp")), file("b", Some("ether"))],
            ..FlowRequest::default()
        };
        expected.interfaces.streams = devices::parse("-i", "eth0/7").expect("an interface");
        expected.interfaces.is_promiscuous = false;
        expected.interfaces.snap_length = 128;
        expected.interfaces.has_snap_length = true;
        expected.clients.port = 561;
        expected.clients.bind =
            Some(vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()]);
        expected.clients.access = "10.0.0.0/8".parse().expect("a network");
        expected.process.is_daemon = true;
        expected.process.root = Some("/srv".into());
        expected.process.user = Some("nobody".to_owned());
        expected.process.group = Some("nogroup".to_owned());
        expected.process.debug_level = 3;
        expected.input.optimises = false;
        expected.input.filter = Some("host 1:2:3:4:5:6".to_owned());
        assert_eq!(request, expected);
    }

    #[test]
    fn applications_need_whole_packets() {
        let snap_length = |line: &str| parsed(line).expect(line).interfaces.snap_length;
        for (options, length) in [
            ("--sequence 3", 256),
            ("--application dns,tls", 2048),
            ("--passive-dns file", 2048),
            ("-U 4000 --application all", 4256),
            ("-s 96 --application all", 96),
            ("--application all -s 96", 96),
        ] {
            assert_eq!(snap_length(&format!("{options} -w out")), length, "{options}");
        }
    }

    #[test]
    fn an_endpoint_needs_no_other_option() {
        let request = parsed("--endpoint").expect("a request");
        let own = [[127, 0, 0, 1].into()];
        assert_eq!((request.clients.port, request.clients.bind.as_deref()), (561, Some(&own[..])));
        assert_eq!(request.interfaces.streams, devices::parse("-i", "all").expect("all"));
        let request = parsed("--endpoint -i eth0 -w out --flows 9").expect("a request");
        assert_eq!((request.clients.port, request.flows.capacity), (0, 9));
        assert_eq!(request.interfaces.streams, devices::parse("-i", "eth0").expect("an interface"));
    }

    #[test]
    fn a_filter_ends_the_options() {
        let filter = |line: &str| parsed(line).expect(line).input.filter;
        assert_eq!(filter("-w out - ip and not icmp").as_deref(), Some("ip and not icmp"));
        assert_eq!(filter("-P 430 ether host (1 and 2)").as_deref(), Some("ether host (1 and 2)"));
        assert_eq!(filter("-r a -w out -").as_deref(), None);
        assert_eq!(filter("-r a -w out -- -x").as_deref(), Some("-x"));
    }

    #[test]
    fn interfaces_follow_each_other() {
        let streams = parsed("-i en0 en1 -i en2/4 -w out").expect("a request").interfaces.streams;
        let expected = ["en0 en1", "en2/4"].map(|text| devices::parse("-i", text).expect(text));
        assert_eq!(streams, expected.concat());
    }

    #[test]
    fn captures_of_exports_have_a_prefix() {
        let request = parsed("-r cisco:b cisco:a c -w out").expect("a request");
        assert_eq!(request.input.cisco, ["a", "b"].map(PathBuf::from));
        assert_eq!(request.input.captures, [PathBuf::from("c")]);
    }

    #[test]
    fn captures_of_servers_have_a_prefix() {
        let request = parsed("-r tcp:127.0.0.1:5000 a tcp:[::1] -w out").expect("a request");
        assert_eq!(request.input.captures, [PathBuf::from("a")]);
        let servers = ["127.0.0.1:5000", "[::1]"].map(|text| Server::parse("-r", text));
        assert_eq!(request.input.servers.iter().cloned().map(Ok).collect::<Vec<_>>(), servers);
        assert!(parsed("-r tcp:127.0.0.1 -w out").expect("a request").reads_captures());
    }

    #[test]
    fn response_times_may_have_a_folder() {
        let request = parsed("-R captures -w out -N 27").expect("a request");
        assert_eq!(request.input.folders, [PathBuf::from("captures")]);
        assert_eq!(request.input.packets, (1, 27));
        let request = parsed("-R -r a.pcap -w out").expect("a request");
        assert!(request.input.folders.is_empty());
    }

    #[test]
    fn captures_have_no_clients_but_in_real_time() {
        assert_eq!(parsed("-r a -w b -P 561 -d").expect("a request").clients.port, 0);
        let request = parsed("-r a -w b -P 561 -d -T 2").expect("a request");
        assert_eq!(
            (request.clients.port, request.process.is_daemon, request.input.time_scale),
            (561, true, Some(2.0))
        );
    }

    #[test]
    fn a_configuration_is_named_before_it_is_read() {
        let names = |line: &str| {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            names_configuration(&words)
        };
        for line in ["-X", "-AXr a", "-F x", "-w out -X", "-Fx", "--endpoint"] {
            assert!(names(line), "{line}");
        }
        for line in ["-rX", "-w out", "- -X", "-w X"] {
            assert!(!names(line), "{line}");
        }
    }

    #[test]
    fn each_mistake_has_one_line() {
        for (line, part) in [
            ("-r a.pcap", "nowhere to write"),
            ("-r a.pcap -w", "-w needs a value"),
            ("-q", "unknown option `-q`"),
            ("--frob", "unknown option `--frob`"),
            ("-i en0(EN10MB) -w out", "`en0(EN10MB)` is no name of an interface"),
            ("-r a.pcap -w http://x", "streams are argus-udp:// and ipfix://, not `http://`"),
            ("-f -w out", "-f is for captures"),
            ("-T 2 -w out", "-T is for captures"),
            ("-T fast -r a -w b", "-T needs a factor above 0, not `fast`"),
            ("-r tcp: -w b", "-r: tcp: needs a host"),
            ("-r tcp:127.0.0.1:0 -w b", "-r needs a number from 1 to 65535, not `0`"),
            ("-N 9-5 -r a -w b", "-N needs a count or FIRST-LAST, not `9-5`"),
            ("-S fast -r a -w b", "-S needs seconds from 0.001 on, not `fast`"),
            ("-U 70000 -r a -w b", "-U needs a number from 0 to 65535, not `70000`"),
            ("-P 70000 -w b", "-P needs a number from 0 to 65535, not `70000`"),
            ("-B home -w b", "-B needs addresses, not `home`"),
            ("--allow home -w b", "--allow: `home` is no address and no network"),
            ("-F /nonexistent/file -w b", "cannot read /nonexistent/file"),
            ("-d -w -", "-d: a daemon has no standard output"),
            ("--application frob -w b", "--application needs `all` or some of dns,"),
            ("--sequence 31 -w b", "--sequence needs a number from 1 to 30, not `31`"),
            ("--dns-servers home -w b", "--dns-servers needs addresses, not `home`"),
            ("--passive-dns", "--passive-dns needs a value"),
            ("--threads 0 -w b", "--threads needs a number from 1 to 16, not `0`"),
            ("--threads 2 -r a -w b", "--threads is for interfaces: it cannot divide captures"),
            ("--threads 2 -N 5 -w b", "--threads: -N needs one thread"),
            ("--threads 2 --endpoint -w b", "--threads: --endpoint needs one thread"),
            ("--threads 2 -i xdp:en0 -w b", "--threads: `xdp:en0` needs one thread"),
            ("--threads 2 -i vxlan:239.1.1.1 -w b", "datagrams to a group come to all threads"),
            ("-h", "help"),
        ] {
            let message = parsed(line).expect_err(line);
            assert!(message.contains(part), "{line}: {message}");
            assert!(!message.contains('\n'), "{line}: {message}");
        }
    }
}
