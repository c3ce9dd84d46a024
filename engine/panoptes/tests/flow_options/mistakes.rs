//! Unknown and contradictory options: one clear line, and exit code 2.

use panoptes_traffic::Clock;

use crate::programs::{BOTH, Folder, Running, Sensor};
use crate::stream::plain;

/// Wrong arguments, and a part of the message about them. `PCAP` stands for a capture.
const MISTAKES: &[(&[&str], &str)] = &[
    (&["-r", "PCAP"], "nowhere to write"),
    (&["-q", "-r", "PCAP", "-w", "OUT"], "unknown option `-q`"),
    (&["--frobnicate"], "unknown option `--frobnicate`"),
    (&["-r", "PCAP", "-w"], "-w needs a value"),
    (&["-r", "PCAP", "-w", "http://x"], "streams are argus-udp://"),
    (&["-r", "PCAP", "-w", "argus-udp://no.such.host.invalid"], "no host has the name"),
    (&["-r", "PCAP", "-w", "OUT", "tcp and ("], "tcp and ("),
    (&["-r", "PCAP", "-w", "OUT", "-", "tcp", "and", "("], "filter"),
    (&["-f", "-w", "OUT"], "-f is for captures"),
    (&["-T", "2", "-w", "OUT"], "-T is for captures"),
    (&["-T", "fast", "-r", "PCAP", "-w", "OUT"], "-T needs a factor"),
    (&["-N", "9-5", "-r", "PCAP", "-w", "OUT"], "-N needs a count or FIRST-LAST"),
    (&["-N", "all", "-r", "PCAP", "-w", "OUT"], "-N needs a count or FIRST-LAST"),
    (&["-S", "never", "-r", "PCAP", "-w", "OUT"], "-S needs seconds"),
    (&["-M", "0", "-r", "PCAP", "-w", "OUT"], "-M needs a number"),
    (&["-U", "-1", "-r", "PCAP", "-w", "OUT"], "-U needs a number"),
    (&["-s", "x", "-r", "PCAP", "-w", "OUT"], "-s needs a number"),
    (&["-D", "9", "-r", "PCAP", "-w", "OUT"], "-D needs a number from 0 to 8"),
    (&["-e", "\"argus\"", "-r", "PCAP", "-w", "OUT"], "one to four bytes"),
    (&["-e", "no.such.host.invalid", "-r", "PCAP", "-w", "OUT"], "no.such.host.invalid"),
    (&["-P", "65536", "-w", "OUT"], "-P needs a number"),
    (&["-B", "here", "-P", "561"], "-B needs addresses"),
    (&["--allow", "10.0.0.0/33", "-P", "561"], "--allow"),
    (&["--flows", "0", "-r", "PCAP", "-w", "OUT"], "--flows needs a number"),
    (&["-i", "dup:en0,,en1", "-w", "OUT"], "no name of an interface"),
    (&["-i", "en0(EN10MB)", "-w", "OUT"], "no name of an interface"),
    (&["-u", "no-such-user", "-r", "PCAP", "-w", "OUT"], "no user has the name"),
    (&["-g", "no-such-group", "-r", "PCAP", "-w", "OUT"], "no group has the name"),
    (&["-d", "-w", "-"], "a daemon has no standard output"),
    (&["--alerts", "x", "-r", "PCAP", "-w", "OUT"], "add `--system SYSTEM`"),
    (&["--config", "x", "-r", "PCAP", "-w", "OUT"], "add `--system SYSTEM`"),
    (&["--system", "x", "-r", "PCAP", "-w", "-"], "add `--alerts FILE`"),
];

/// Runs Panoptes with arguments that have a mistake; the exit code and the message.
#[track_caller]
fn refused(folder: &Folder, arguments: &[&str]) -> (Option<i32>, String) {
    let capture = folder.capture("a.pcap", &plain());
    let output = folder.text("out");
    let arguments: Vec<_> = arguments
        .iter()
        .map(|word| match *word {
            "PCAP" => &capture[..],
            "OUT" => &output[..],
            word => word,
        })
        .collect();
    let ended = Running::start(&mut Sensor::Panoptes.with(&arguments)).ended();
    assert!(!folder.path("out").exists(), "{arguments:?}: an output is left behind");
    (ended.status.code(), ended.messages)
}

#[test]
fn each_mistake_has_one_line_and_the_exit_code_2() {
    let folder = Folder::new();
    for (arguments, part) in MISTAKES {
        let (code, messages) = refused(&folder, arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {messages}");
        assert!(messages.contains(part), "{arguments:?}: {messages}");
        assert_eq!(messages.lines().count(), 1, "{arguments:?}: {messages}");
        assert!(messages.starts_with("panoptes: "), "{messages}");
    }
}

#[test]
fn mistakes_of_a_configuration_have_their_lines() {
    let folder = Folder::new();
    let text = b"ARGUS_DAEMON=perhaps\nARGUS_FLOW_STATUS_INTERVAL=5\nARGUS_TCP_TIMEOUT=0\n";
    let configuration = folder.write("argus.conf", text);
    let (code, messages) = refused(&folder, &["-F", &configuration, "-r", "PCAP", "-w", "OUT"]);
    assert_eq!(code, Some(78), "{messages}");
    let lines: Vec<_> = messages.lines().collect();
    assert_eq!(lines.len(), 2, "{messages}");
    assert!(lines[0].contains("argus.conf:1: ") && lines[1].contains("argus.conf:3: "));
}

#[test]
fn what_is_missing_has_exit_codes_of_its_own() {
    let folder = Folder::new();
    let missing = folder.text("missing");
    for arguments in [
        ["-r", &missing, "-w", "OUT"],
        ["-R", &missing, "-w", "OUT"],
        ["-i", "nothing0", "-w", "OUT"],
        ["-F", &missing, "-w", "OUT"],
    ] {
        let (code, messages) = refused(&folder, &arguments);
        assert_eq!(code, Some(66), "{arguments:?}: {messages}");
        assert_eq!(messages.lines().count(), 1, "{arguments:?}: {messages}");
    }
    let text = folder.write("text", b"no capture at all, but a text of some length");
    let (code, messages) = refused(&folder, &["-r", &text, "-w", "OUT"]);
    assert_eq!((code, messages.lines().count()), (Some(65), 1), "{messages}");
}

/// Reads captures; the exit code, and the lines of messages.
fn ending(options: &[&str]) -> (Option<i32>, Vec<String>) {
    let ended = Running::start(&mut Sensor::Panoptes.with(options)).ended();
    (ended.status.code(), ended.messages.lines().map(str::to_owned).collect())
}

#[test]
fn each_failure_of_a_capture_has_one_line_and_its_exit_code() {
    let folder = Folder::new();
    let whole = plain().pcap(Clock::Microseconds);
    let good = folder.write("good.pcap", &whole);
    let cut = folder.write("cut.pcap", &whole[..whole.len() - 1]);
    // The second packet has an impossible length.
    let mut damaged = whole.clone();
    let first = u32::from_le_bytes(whole[32..36].try_into().expect("four")) as usize;
    damaged[40 + first + 8..][..4].fill(0xff);
    let damaged = folder.write("damaged.pcap", &damaged);
    let mut unread = whole.clone();
    unread[20..24].copy_from_slice(&147_u32.to_le_bytes());
    let unread = folder.write("unread.pcap", &unread);
    let (missing, empty) = (folder.text("missing"), folder.write("empty.pcap", b""));
    let (nothing, texts) = (folder.text("nothing"), folder.text("texts"));
    std::fs::create_dir(&nothing).expect("a folder");
    std::fs::create_dir(&texts).expect("a folder");
    folder.write("texts/readme", b"a text that is longer than the header of a capture");
    for (captures, code, part) in [
        (&["-r", &cut][..], 0, "bytes at the ends of captures are no whole packets"),
        (&["-r", &damaged], 65, "damaged.pcap is damaged at byte "),
        (&["-r", &unread], 65, "packets could be read: link type 147 (USER0)"),
        (&["-r", &empty], 65, "empty.pcap is empty: no capture was written to it"),
        (&["-r", "-"], 65, "standard input is empty: no capture was written to it"),
        (&["-r", &nothing], 65, "nothing has no capture"),
        (&["-R", &nothing], 65, "nothing has no capture"),
        (&["-r", &good, &missing], 66, "cannot open "),
        (&["-r", &good, &damaged], 65, "damaged.pcap is damaged at byte "),
    ] {
        let out = folder.text("out");
        let (found, lines) = ending(&[captures, &["-w", &out]].concat());
        assert_eq!((found, lines.len()), (Some(code), 1), "{captures:?}: {lines:?}");
        assert!(lines[0].starts_with("panoptes: ") && lines[0].contains(part), "{lines:?}");
    }
    let (code, lines) = ending(&["-r", &texts, "-w", &folder.text("out")]);
    assert_eq!((code, lines.len()), (Some(65), 2), "{lines:?}");
    assert!(lines[0].contains("left out: ") && lines[1].contains("texts has no capture"));
}

#[test]
fn a_full_disk_has_one_line_and_the_exit_code_74() {
    let folder = Folder::new();
    let good = folder.capture("good.pcap", &plain());
    for output in ["/dev/full", "json:/dev/full"] {
        let (code, lines) = ending(&["-r", &good, "-w", output]);
        assert_eq!((code, lines.len()), (Some(74), 1), "{output}: {lines:?}");
        assert!(lines[0].contains("/dev/full"), "{lines:?}");
        // Each failure has its line, and the first one the exit code.
        let missing = folder.text("missing");
        let (code, lines) = ending(&["-r", &good, &missing, "-w", output]);
        assert!(matches!(code, Some(66 | 74)), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("/dev/full")), "{lines:?}");
    }
}

#[test]
fn a_reader_that_needs_no_more_is_no_failure() {
    let folder = Folder::new();
    let good = folder.capture("good.pcap", &plain());
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Sensor::Panoptes.with(&["-r", &good, "-w", "json:-"]);
    let running = Running::spawn(command.stdin(std::process::Stdio::null()).stdout(writer));
    assert_eq!(running.ended().succeeded(), "");
}

#[test]
fn argus_refuses_what_panoptes_refuses() {
    // For most mistakes, argus ends with the exit code 0, or continues.
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let output = folder.text("out");
    for arguments in
        [&["-q", "-r", &capture, "-w", &output][..], &["-N", "all", "-r", &capture, "-w", &output]]
    {
        for sensor in BOTH {
            let ended = Running::start(&mut sensor.with(arguments)).ended();
            assert!(!ended.status.success(), "{sensor:?} {arguments:?}: {}", ended.messages);
        }
    }
}

/// What it does with a real system is in `tests/live/wire.rs`.
#[test]
fn a_system_is_refused_by_one_line() {
    let folder = Folder::new();
    let (alerts, memory) = (folder.text("alerts"), folder.text("memory"));
    std::fs::write(folder.path("memory"), vec![0; 1 << 20]).expect("a file");
    for (system, code, part) in [
        ("/nonexistent/memory", 66, "/nonexistent/memory"),
        ("qemu:0", 2, "qemu:0"),
        ("qemu:zero", 66, "qemu:zero: no guest of this machine has this name"),
        (memory.as_str(), 65, "no kernel"),
    ] {
        let arguments = ["--system", system, "--alerts", &alerts, "-r", "PCAP", "-w", "OUT"];
        let (exit, message) = refused(&folder, &arguments);
        assert_eq!(exit, Some(code), "{system}: {message}");
        assert!(message.contains(part), "{system}: {message}");
        // Messages about the search of all memory precede it.
        let is_error = |line: &&str| line.starts_with("panoptes: error: ");
        assert_eq!(message.lines().filter(is_error).count(), 1, "{system}: {message}");
    }
    assert!(!folder.path("alerts").exists(), "a file of alerts is left behind");
}
