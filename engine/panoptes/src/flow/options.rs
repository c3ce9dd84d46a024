//! The options of argus(8), read as getopt(3) does.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use panoptes_sinks::flow::argus::{Options, SourceId};

use crate::exit::{Exit, Failure};

/// The options, for the help text and for the manual.
pub(crate) const HELP: &str = "\
Input:
  -r FILE...  Read these captures, in the order of their names; `-` is standard input. Formats:
              pcap, pcapng, snoop, ERF; plain, or compressed by gzip, xz, zstd or lz4
  -R FOLDER   Read all files below this folder, in order; without a folder: see -R below
  -t          The captures are TSH
  -N COUNT    Read this many packets; FIRST-LAST reads that range, both included

Output:
  -w FILE     Append argus records to this file; `-` is standard output; may be repeated
  -e ID       Identify this sensor: a number, an IPv4 address, a host's name, or '\"text\"' with up
              to four characters
  -S SECONDS  Report each flow at this interval; may be a fraction (5)
  -M SECONDS  Report the sensor's own state at this interval (300)

Records:
  -A          Add the bytes behind the transport header
  -J          Add the times between packets
  -m          Add hardware addresses
  -R          Add what response times derive from; records always have it
  -U BYTES    Add the first bytes of the data of both ends
  -Z          Add the sizes of the smallest and of the largest packets
  --flows N   Track this many flows at once (1000000)

  -X          Ignore what configuration files set before this option
  -h          Print this help

Not built yet: -b -B -c -C -d -D -f -F -g -i -O -P -p -s -T -u, filters, and streams (`-w
argus-udp://`). No configuration file is read.

Exit codes: 0 done, 2 wrong command line, 65 a capture is damaged, 66 it can't be opened, 74 output
failed, 77 permission denied.
";

/// The status interval of argus in seconds (`ARGUS_FARSTATUSTIMER`).
const STATUS_INTERVAL_NS: i64 = 5_000_000_000;
/// That of management records, as argus(8) documents it.
const MANAGEMENT_INTERVAL_S: u16 = 300;
/// The most bytes of data that are kept of each end: argus's largest packet.
const USER_BYTES_MAX: usize = 0xffff;
/// Flows that are tracked at once.
const CAPACITY: usize = 1_000_000;

/// What the user wants.
pub(super) enum Asked {
    Help,
    Audit(Request),
}

/// What to read, what to write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Request {
    pub(super) captures: Vec<PathBuf>,
    pub(super) folders: Vec<PathBuf>,
    pub(super) outputs: Vec<PathBuf>,
    /// Numbers of the first and of the last packet to be read, from 1 on.
    pub(super) packets: (u64, u64),
    pub(super) status_interval_ns: i64,
    pub(super) management_interval_s: u16,
    pub(super) records: Options,
    pub(super) has_jitter: bool,
    pub(super) user_bytes: usize,
    pub(super) capacity: usize,
    /// Captures are TSH, which has no mark of its own.
    pub(super) as_tsh: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            captures: Vec::new(),
            folders: Vec::new(),
            outputs: Vec::new(),
            packets: (1, u64::MAX),
            status_interval_ns: STATUS_INTERVAL_NS,
            management_interval_s: MANAGEMENT_INTERVAL_S,
            records: Options::default(),
            has_jitter: false,
            user_bytes: 0,
            capacity: CAPACITY,
            as_tsh: false,
        }
    }
}

/// A mistake on the command line.
fn mistake(what: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, what)
}

/// The arguments that are left.
struct Rest<'a> {
    arguments: std::iter::Peekable<std::slice::Iter<'a, OsString>>,
}

impl<'a> Rest<'a> {
    /// The next argument if it is no option; `-` alone is none.
    fn operand(&mut self) -> Option<&'a OsStr> {
        let is_operand = |word: &&'a OsString| !word.as_bytes().starts_with(b"-");
        self.arguments.next_if(is_operand).map(OsString::as_os_str)
    }

    /// The value of an option: what follows its letter, or the next argument.
    fn value(&mut self, letter: u8, attached: &'a [u8]) -> Result<&'a OsStr, Failure> {
        if !attached.is_empty() {
            return Ok(OsStr::from_bytes(attached));
        }
        let next = self.arguments.next().map(OsString::as_os_str);
        next.ok_or_else(|| mistake(format!("-{} needs a value", char::from(letter))))
    }
}

/// Reads the arguments behind the program's name.
pub(super) fn parse(arguments: &[OsString]) -> Result<Asked, Failure> {
    let mut request = Request::default();
    let mut rest = Rest { arguments: arguments.iter().peekable() };
    while let Some(argument) = rest.arguments.next() {
        match argument.as_bytes() {
            b"-" | b"--" => {
                if rest.arguments.peek().is_some() {
                    return Err(Failure::not_built("a filter of packets"));
                }
            }
            b"-h" | b"--help" => return Ok(Asked::Help),
            b"--flows" => {
                let value = rest.value(b'-', &[])?;
                request.capacity = number(value, "--flows", 1, (1 << 26) - 2)? as usize;
            }
            word if word.starts_with(b"--") => {
                return Err(mistake(format!("unknown option `{}`", argument.display())));
            }
            [b'-', letters @ ..] => read_letters(letters, &mut rest, &mut request)?,
            _ => return Err(Failure::not_built("a filter of packets")),
        }
    }
    check(request).map(Asked::Audit)
}

/// Reads an argument of letters: the first one that has a value takes the rest.
fn read_letters<'a>(
    mut letters: &'a [u8],
    rest: &mut Rest<'a>,
    request: &mut Request,
) -> Result<(), Failure> {
    while let Some((&letter, attached)) = letters.split_first() {
        letters = attached;
        match letter {
            b'A' => request.records.application_bytes = true,
            b'J' => request.has_jitter = true,
            b'm' => request.records.hardware = true,
            b'Z' => request.records.packet_sizes = true,
            b't' => request.as_tsh = true,
            b'X' => {}
            b'R' => {
                // The manual's own example has a folder here.
                if let Some(folder) = attached.is_empty().then(|| rest.operand()).flatten() {
                    request.folders.push(folder.into());
                }
            }
            b'e' | b'M' | b'N' | b'r' | b'S' | b'U' | b'w' => {
                let value = rest.value(letter, attached)?;
                return with_value(letter, value, rest, request);
            }
            b'b' | b'B' | b'c' | b'C' | b'd' | b'D' | b'f' | b'F' | b'g' | b'i' | b'O' | b'P'
            | b'p' | b's' | b'T' | b'u' => {
                return Err(Failure::not_built(format!("-{} of argus", char::from(letter))));
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
    value: &'a OsStr,
    rest: &mut Rest<'a>,
    request: &mut Request,
) -> Result<(), Failure> {
    match letter {
        b'e' => request.records.source_id = source_id(value)?,
        b'M' => request.management_interval_s = number(value, "-M", 1, 0xffff)? as u16,
        b'N' => request.packets = range(value)?,
        b'S' => request.status_interval_ns = interval(value)?,
        b'U' => request.user_bytes = number(value, "-U", 0, USER_BYTES_MAX as u64)? as usize,
        b'w' => {
            if value.as_bytes().windows(3).any(|part| part == b"://") {
                return Err(Failure::not_built(format!("the stream {}", value.display())));
            }
            request.outputs.push(value.into());
            if rest.operand().is_some() {
                return Err(Failure::not_built("a filter of records behind `-w FILE`"));
            }
        }
        _ => {
            let mut next = Some(value);
            while let Some(file) = next {
                if file.as_bytes().starts_with(b"cisco:") {
                    return Err(Failure::not_built("`-r cisco:`"));
                }
                request.captures.push(file.into());
                next = rest.operand();
            }
        }
    }
    Ok(())
}

/// Checks what only the whole shows.
fn check(mut request: Request) -> Result<Request, Failure> {
    if request.captures.is_empty() && request.folders.is_empty() {
        return Err(mistake("nothing to read: add `-r FILE`; interfaces are not built yet"));
    }
    if request.outputs.is_empty() {
        return Err(mistake("nowhere to write: add `-w FILE`, or `-w -` for standard output"));
    }
    let is_on_terminal = io::stdout().is_terminal();
    if request.outputs.iter().any(|path| path == Path::new("-")) && is_on_terminal {
        return Err(mistake(
            "argus records are binary: send standard output to `ra -r -` or a file",
        ));
    }
    request.captures.sort();
    Ok(request)
}

fn text<'a>(value: &'a OsStr, option: &str) -> Result<&'a str, Failure> {
    value.to_str().ok_or_else(|| mistake(format!("{option} needs text, not {}", value.display())))
}

fn number(value: &OsStr, option: &str, least: u64, most: u64) -> Result<u64, Failure> {
    let number = text(value, option)?.parse().ok().filter(|number| (least..=most).contains(number));
    let message =
        || format!("{option} needs a number from {least} to {most}, not `{}`", value.display());
    number.ok_or_else(|| mistake(message()))
}

/// The status interval: seconds, also a part of one.
fn interval(value: &OsStr) -> Result<i64, Failure> {
    let seconds = text(value, "-S")?.parse().ok();
    let seconds = seconds.filter(|seconds| (0.001..=1e9).contains(seconds));
    let message = || format!("-S needs seconds from 0.001 on, not `{}`", value.display());
    let seconds: f64 = seconds.ok_or_else(|| mistake(message()))?;
    Ok((seconds * 1e9) as i64)
}

/// `-N 27`: the first 27 packets; `-N 5-9`: the fifth to the ninth, both included.
fn range(value: &OsStr) -> Result<(u64, u64), Failure> {
    let words = text(value, "-N")?;
    let (first, last) = words.split_once('-').unwrap_or(("1", words));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 1 <= first && first <= last => Ok((first, last)),
        _ => Err(mistake(format!("-N needs a count or FIRST-LAST, not `{words}`"))),
    }
}

/// The sensor's id: a text in double quotes, an address, a number, or a host's name.
fn source_id(value: &OsStr) -> Result<SourceId, Failure> {
    let words = text(value, "-e")?;
    if let Some(quoted) = words.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        let mut id = [0; 4];
        let room = id.get_mut(..quoted.len()).filter(|room| !room.is_empty());
        let message = || format!("-e: a text has one to four bytes, not `{quoted}`");
        room.ok_or_else(|| mistake(message()))?.copy_from_slice(quoted.as_bytes());
        return Ok(SourceId::Text(id));
    }
    if let Ok(number) = words.parse() {
        return Ok(SourceId::Number(number));
    }
    let addresses = (words, 0).to_socket_addrs();
    let address = addresses.ok().and_then(|mut all| {
        all.find_map(|address| match address.ip() {
            IpAddr::V4(address) => Some(address.to_bits()),
            IpAddr::V6(_) => None,
        })
    });
    let message =
        || format!("-e: `{words}` is no number, IPv4 address, or name of a host with one");
    address.map(SourceId::Address).ok_or_else(|| mistake(message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        match parse(&words) {
            Ok(Asked::Audit(request)) => Ok(request),
            Ok(Asked::Help) => Err("help".to_owned()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn options_are_read_as_getopt_does() {
        let request = parsed("-XAJm -Z -U64 -S 0.5 -M60 -N 5-9 -e \"ab1\" -r b.pcap a.pcap -w out");
        let expected = Request {
            captures: vec!["a.pcap".into(), "b.pcap".into()],
            outputs: vec!["out".into()],
            packets: (5, 9),
            status_interval_ns: 500_000_000,
            management_interval_s: 60,
            records: Options {
                source_id: SourceId::Text(*b"ab1\0"),
                application_bytes: true,
                hardware: true,
                packet_sizes: true,
            },
            has_jitter: true,
            user_bytes: 64,
            ..Request::default()
        };
        assert_eq!(request, Ok(expected));
    }

    #[test]
    fn response_times_may_have_a_folder() {
        let request = parsed("-R captures -w out -N 27").expect("a request");
        assert_eq!(request.folders, [PathBuf::from("captures")]);
        assert_eq!(request.packets, (1, 27));
        let request = parsed("-R -r a.pcap -w out").expect("a request");
        assert!(request.folders.is_empty());
    }

    #[test]
    fn ids_are_numbers_addresses_or_texts() {
        let id = |text: &str| source_id(OsStr::new(text)).map_err(|failure| failure.to_string());
        assert_eq!(id("7"), Ok(SourceId::Number(7)));
        assert_eq!(id("10.1.0.1"), Ok(SourceId::Address(0x0a01_0001)));
        assert_eq!(id("localhost"), Ok(SourceId::Address(0x7f00_0001)));
        assert_eq!(id("\"arg1\""), Ok(SourceId::Text(*b"arg1")));
        assert!(id("\"argus\"").is_err_and(|message| message.contains("one to four bytes")));
    }

    #[test]
    fn each_mistake_has_one_line() {
        for (line, part) in [
            ("-w out", "nothing to read"),
            ("-r a.pcap", "nowhere to write"),
            ("-r a.pcap -w", "-w needs a value"),
            ("-q", "unknown option `-q`"),
            ("--frob", "unknown option `--frob`"),
            ("-i eth0", "-i of argus is not built yet"),
            ("-r cisco:a.pcap -w out", "`-r cisco:` is not built yet"),
            ("-r a.pcap -w argus-udp://", "the stream argus-udp:// is not built yet"),
            ("-r a.pcap -w out tcp", "a filter of records behind `-w FILE` is not built yet"),
            ("-r a.pcap -w out - tcp", "a filter of packets is not built yet"),
            ("-N 9-5 -r a -w b", "-N needs a count or FIRST-LAST, not `9-5`"),
            ("-S fast -r a -w b", "-S needs seconds from 0.001 on, not `fast`"),
            ("-U 70000 -r a -w b", "-U needs a number from 0 to 65535, not `70000`"),
            ("-h", "help"),
        ] {
            let message = parsed(line).expect_err(line);
            assert!(message.contains(part), "{line}: {message}");
            assert!(!message.contains('\n'), "{line}: {message}");
        }
    }
}
