//! The options of argus(8), read as getopt(3) does.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt as _;
use std::slice;

use super::origin::Server;
use super::request::{Alerts, FlowRecordForm, FlowRequest, InputRequest, OutputRequest, Target};
use super::settings::{
    self, CommandLineEffect, FlowSetting, FlowSettingEffect, OptionSwitch, ReplacedSettings,
};
use super::values::mistake;
use super::{configuration, threads};
use crate::exit::Failure;

/// What the user wants.
pub(super) enum ArgusCommand {
    Help,
    Audit(Box<FlowRequest>),
}

/// A command line while it is read, with the request so far.
struct FlowCommandLine<'a> {
    /// The arguments that are left.
    arguments: Peekable<slice::Iter<'a, OsString>>,
    request: FlowRequest,
    replaced: ReplacedSettings,
}

impl<'a> FlowCommandLine<'a> {
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

    fn text_value(&mut self, option: &str, attached: &'a [u8]) -> Result<&'a str, Failure> {
        text(self.value(option, attached)?, option)
    }

    /// The rest of the command line is the filter of packets.
    fn set_filter(&mut self, first: Option<&'a OsString>) -> Result<(), Failure> {
        let words = first.into_iter().chain(self.arguments.by_ref());
        let words = words.map(|word| text(word, "a filter")).collect::<Result<Vec<_>, _>>()?;
        if !words.is_empty() {
            self.request.input.filter = Some(words.join(" "));
        }
        Ok(())
    }

    /// Reads an argument of letters: the first one that has a value takes the rest.
    fn read_letters(&mut self, mut letters: &'a [u8]) -> Result<(), Failure> {
        while let Some((&letter, attached)) = letters.split_first() {
            letters = attached;
            let Some(setting) = settings::of_letter(letter) else {
                let letter = char::from(letter).escape_default();
                return Err(mistake(format!("unknown option `-{letter}`; -h lists the options")));
            };
            self.apply(setting, attached)?;
            if setting.has_value() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Applies an option. `attached` is what follows its letter.
    fn apply(&mut self, setting: &FlowSetting, attached: &'a [u8]) -> Result<(), Failure> {
        let option = setting.option();
        match &setting.effect {
            FlowSettingEffect::Switch(switch, place) => {
                let place = place(&mut self.request);
                *place = match switch {
                    OptionSwitch::On => true,
                    OptionSwitch::Off => false,
                    OptionSwitch::Toggle => !*place,
                };
            }
            FlowSettingEffect::Act(act) => act(&mut self.request),
            FlowSettingEffect::Text(set) => {
                let value = self.text_value(option, attached)?;
                set(&mut self.request, option, value)?;
            }
            FlowSettingEffect::SensorId => {
                let value = self.text_value(option, attached)?;
                self.request.set_source_id(option, value)?;
            }
            FlowSettingEffect::Interfaces => {
                let mut words = self.text_value(option, attached)?.to_owned();
                while let Some(word) = self.operand() {
                    words = format!("{words} {}", text(word, option)?);
                }
                self.replaced.add_interfaces(&mut self.request, option, &words)?;
            }
            FlowSettingEffect::Output => {
                let to = self.text_value(option, attached)?;
                let filter = self.operand().map(|filter| text(filter, option)).transpose()?;
                self.replaced.add_output(&mut self.request, option, to, filter)?;
            }
            FlowSettingEffect::CommandLine(effect) => self.apply_own(option, effect, attached)?,
        }
        Ok(())
    }

    /// Applies an option that no variable stands for.
    fn apply_own(
        &mut self,
        option: &str,
        effect: &CommandLineEffect,
        attached: &'a [u8],
    ) -> Result<(), Failure> {
        match effect {
            CommandLineEffect::Bytes(set) => {
                let value = self.value(option, attached)?;
                set(&mut self.request, option, value)?;
            }
            CommandLineEffect::Captures => {
                let mut next = Some(self.value(option, attached)?);
                while let Some(file) = next {
                    add_capture(&mut self.request.input, option, file)?;
                    next = self.operand();
                }
            }
            CommandLineEffect::Folder => {
                // The manual's own example has a folder here.
                if let Some(folder) = attached.is_empty().then(|| self.operand()).flatten() {
                    self.request.input.folders.push(folder.into());
                }
            }
            CommandLineEffect::Configuration => {
                let path = self.text_value(option, attached)?;
                configuration::read(path, &mut self.request)?;
            }
            CommandLineEffect::ShownOnly => {}
        }
        Ok(())
    }
}

/// Reads the arguments behind the program's name. `default` is the configuration that is read
/// unless -X, -F or --endpoint is there.
pub(super) fn parse(arguments: &[OsString], default: &str) -> Result<ArgusCommand, Failure> {
    let mut request = FlowRequest::default();
    if !names_configuration(arguments) {
        configuration::read_if_there(default, &mut request)?;
    }
    let replaced = ReplacedSettings::default();
    let mut line = FlowCommandLine { arguments: arguments.iter().peekable(), request, replaced };
    // lexopt 0.3 cannot do this with less code. It accepts `--flows=9`. It does not tell the `-` of
    // `-- -` from one without `--`. It replaces bytes of names that are no text, and so changes
    // messages. Operands behind -i, -r, -R and -w need a look at the next argument in any case.
    while let Some(argument) = line.arguments.next() {
        match argument.as_bytes() {
            b"-" | b"--" => line.set_filter(None)?,
            b"-h" | b"--help" => return Ok(ArgusCommand::Help),
            [b'-', b'-', ..] => {
                let option = text(argument, "an option")?;
                let setting = settings::of_option(option);
                let unknown = || mistake(format!("unknown option `{option}`"));
                line.apply(setting.ok_or_else(unknown)?, &[])?;
            }
            [b'-', letters @ ..] => line.read_letters(letters)?,
            _ => line.set_filter(Some(argument))?,
        }
    }
    check(line.request).map(|request| ArgusCommand::Audit(Box::new(request)))
}

/// Whether an option decides which configuration is read.
fn names_configuration(arguments: &[OsString]) -> bool {
    let end = arguments.iter().position(|word| word == "-" || word == "--");
    let options = &arguments[..end.unwrap_or(arguments.len())];
    let has_value = |letter: u8| settings::of_letter(letter).is_some_and(FlowSetting::has_value);
    options.iter().any(|word| match word.as_bytes() {
        b"--endpoint" => true,
        [b'-', letters @ ..] if !letters.starts_with(b"-") => {
            let flags = letters.split(|letter| has_value(*letter)).next();
            let has = |letter: u8| flags.is_some_and(|flags| flags.contains(&letter));
            has(b'X') || letters.first() == Some(&b'F')
        }
        _ => false,
    })
}

/// Adds a capture, an export of flows or a server to what is read.
fn add_capture(input: &mut InputRequest, option: &str, file: &OsStr) -> Result<(), Failure> {
    let prefixed = |prefix: &str| file.as_bytes().strip_prefix(prefix.as_bytes());
    if let Some(path) = prefixed("cisco:") {
        input.cisco.push(OsStr::from_bytes(path).into());
    } else if let Some(server) = prefixed("tcp:") {
        let server = text(OsStr::from_bytes(server), option)?;
        input.servers.push(Server::parse(option, server)?);
    } else {
        input.captures.push(file.into());
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

    use super::super::devices;
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
        assert_eq!(filter("-r a -w out -- - x").as_deref(), Some("- x"));
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
            ("-Ah", "unknown option `-h`"),
            ("--frob", "unknown option `--frob`"),
            ("--flows=9 -w b", "unknown option `--flows=9`"),
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
