//! Exceptions that are accepted, and the message of each mistake.

use super::*;
use crate::config::{Configuration, Mode, Overrides, Problem, Report, Weight, read};

/// One exception with these keys, in the third line of a file.
fn read_one(keys: &str) -> (Configuration, Vec<Problem>) {
    let text = format!("# exceptions\nexceptions:\n  - {{{keys}}}\n");
    read(&text, Path::new("/etc/panoptes"), Mode::Run, &Overrides::default())
}

fn lines(problems: Vec<Problem>, weight: Weight) -> Vec<String> {
    let problems = problems.into_iter().filter(|problem| problem.weight == weight).collect();
    Report { problems, ..Report::default() }.lines().map(|(_, line)| line).collect()
}

/// An exception that must have no error, and its warnings.
#[track_caller]
fn good(keys: &str) -> (engine::Exception, Vec<String>) {
    let (configuration, problems) = read_one(keys);
    assert_eq!(lines(problems.clone(), Weight::Error), [""; 0], "{keys}");
    let [exception] = &configuration.exceptions[..] else { panic!("{keys}") };
    (exception.into(), lines(problems, Weight::Warning))
}

/// The beginning of a message about what stands there first in the third line.
fn place(keys: &str, text: &str) -> String {
    format!("3:{}: ", format!("  - {{{keys}}}").find(text).unwrap() + 1)
}

/// Keys with one mistake, which stands there, and the message about it.
#[track_caller]
fn bad(keys: &str, at: &str, message: &str) {
    let expected = place(keys, at) + message;
    assert_eq!(lines(read_one(keys).1, Weight::Error), [expected], "{keys}");
}

const PATH: &str = "process_executable_path: /usr/bin/node, reason: its compiler";
const ADDED: &str = "activity: executable_permissions_added";

#[test]
fn every_key_is_read() {
    let (exception, warnings) = good(
        "activity: reverse_shell_detected, process_executable_path: '/opt/*/agent', process_name: \
         'agent*', user_id: 990, container: web-*, image: '*/agent:*', address: 10.0.0.0/8, \
         command_line: '*/agent --serve*', reason: 'it runs jobs', until: 2999-12-31",
    );
    assert_eq!(warnings, [""; 0]);
    let glob = |text| Some(Glob::new(text));
    assert_eq!(exception.activity, Activity::ReverseShellDetected);
    assert_eq!(exception.process_executable_path, glob("/opt/*/agent"));
    assert_eq!(exception.process_name, glob("agent*"));
    assert_eq!(exception.user_id, Some(990));
    assert_eq!(exception.container, glob("web-*"));
    assert_eq!(exception.image, glob("*/agent:*"));
    let network = AddressPattern::Network(IpAddr::from([10, 0, 0, 0]), 8);
    assert_eq!(exception.address, Some(network));
    assert_eq!(exception.command_line, glob("*/agent --serve*"));
    assert_eq!(&*exception.reason, "it runs jobs");
    assert!(exception.until.is_some());
}

#[test]
fn each_mistake_has_one_clear_line() {
    for (keys, at, message) in [
        (
            format!("activity: executable_permission_added, {PATH}"),
            "executable_permission_added",
            "`exceptions[0].activity`: `executable_permission_added` is not an alert; did \
             you mean `executable_permissions_added`?",
        ),
        (
            format!("activity: process_created, {PATH}"),
            "process_created",
            "`exceptions[0].activity`: `process_created` is not an alert, and exceptions \
             silence only alerts; to have no such events, write `default: {events: \
             {process_created: false}}`",
        ),
        (
            format!("activity: clock_tampered, {PATH}"),
            "clock_tampered",
            "`exceptions[0].activity`: `clock_tampered` is about no process and no \
             connection, so no exception matches it",
        ),
        (
            PATH.to_owned(),
            "{",
            "`exceptions[0].activity` is missing; write the alert to silence, such as \
             executable_permissions_added",
        ),
        (
            format!("{ADDED}, user_id: 7"),
            "{",
            "`exceptions[0].reason` is missing; write why these alerts need no attention",
        ),
        (format!("{ADDED}, reason: '', user_id: 7"), "''", "`exceptions[0].reason`: `` is empty"),
        (
            format!("{ADDED}, reason: all of them"),
            "executable_permissions_added",
            "`exceptions[0].activity` is the only condition, which silences every alert \
             `executable_permissions_added`; name a program, a user, a container or an address, or \
             write `default: {events: {executable_permissions_added: false}}`",
        ),
        (
            format!("{ADDED}, reason: x, process_executable_path: nginx"),
            "nginx",
            "`exceptions[0].process_executable_path`: `nginx` does not begin with a folder; \
             write a path such as /usr/bin/node or /opt/agent/*/bin/agent",
        ),
        (
            format!("{ADDED}, reason: x, process_executable_path: '/*/node'"),
            "'/*/node'",
            "`exceptions[0].process_executable_path`: `/*/node` does not begin with a \
             folder; write a path such as /usr/bin/node or /opt/agent/*/bin/agent",
        ),
        (
            format!("{ADDED}, {PATH}, process_name: postgres_exporter"),
            "postgres_exporter",
            "`exceptions[0].process_name`: `postgres_exporter` is longer than the 15 bytes \
             of a process's name that Linux keeps",
        ),
        (
            format!("{ADDED}, {PATH}, user_id: www-data"),
            "www-data",
            "`exceptions[0].user_id`: `www-data` is not a whole number; write digits alone, such \
             as 4096",
        ),
        (
            format!("{ADDED}, {PATH}, address: 10.0.0.1"),
            "10.0.0.1",
            "`exceptions[0].address`: alerts `executable_permissions_added` are about no \
             connection",
        ),
        (
            format!("activity: reverse_shell_detected, {PATH}, address: db.example.com"),
            "db.example.com",
            "`exceptions[0].address`: `db.example.com` is not an address; write one such as \
             10.0.0.7, 10.0.0.0/8 or 10.0.*",
        ),
        (
            format!("activity: reverse_shell_detected, {PATH}, address: 10.0.0.0/33"),
            "10.0.0.0/33",
            "`exceptions[0].address`: `10.0.0.0/33` is not an address; write one such as \
             10.0.0.7, 10.0.0.0/8 or 10.0.*",
        ),
        (
            format!("{ADDED}, {PATH}, kernel_module_name: lkrg"),
            "lkrg",
            "`exceptions[0].kernel_module_name`: alerts `executable_permissions_added` are about \
             no module that hooks",
        ),
        (
            "activity: kernel_hook_detected, reason: x, user_id: 0".to_owned(),
            "0}",
            "`exceptions[0].user_id`: alerts `kernel_hook_detected` are about no process",
        ),
        (
            "activity: kernel_text_modified, reason: x, kernel_module_name: lkrg".to_owned(),
            "kernel_text_modified",
            "`exceptions[0].activity`: `kernel_text_modified` is about no process and no \
             connection, so no exception matches it",
        ),
        (
            format!("{ADDED}, {PATH}, until: tomorrow"),
            "tomorrow",
            "`exceptions[0].until`: `tomorrow` is not a date; write one such as 2027-03-31 \
             (to the end of that day) or 2027-03-31T18:00:00Z",
        ),
        (
            format!("{ADDED}, {PATH}, user: 7"),
            "user:",
            "unknown key `user` in `exceptions[0]`; did you mean `user_id`?",
        ),
        (
            format!("{ADDED}, {PATH}, container: [a]"),
            "[a]",
            "`exceptions[0].container` must be a single value, not a list",
        ),
    ] {
        bad(&keys, at, message);
    }
    let text = "exceptions: {activity: process_hidden}";
    let (_, problems) = read(text, Path::new(""), Mode::Run, &Overrides::default());
    let message = "1:13: `exceptions` must be a list, not a mapping of keys to values; write a \
                   dash before the first key of each element: `- activity: …`";
    assert_eq!(lines(problems, Weight::Error), [message]);
}

#[test]
fn a_module_that_hooks_is_named() {
    let keys = "activity: kernel_hook_detected, kernel_module_name: 'lkrg*', reason: our guard";
    let (exception, warnings) = good(keys);
    assert_eq!(exception.kernel_module_name, Some(Glob::new("lkrg*")));
    assert!(exception.can_apply() && warnings.is_empty());
}

#[test]
fn too_many_exceptions_are_refused() {
    let one = format!("- {{{ADDED}, {PATH}}}\n");
    let text = format!("exceptions:\n{}", one.repeat(257));
    let (_, problems) = read(&text, Path::new(""), Mode::Run, &Overrides::default());
    // A list is where its first element is.
    let message = "2:3: `exceptions` has 257 entries; at most 256 are possible";
    assert_eq!(lines(problems, Weight::Error), [message]);
}

#[test]
fn what_any_process_can_choose_is_no_exception() {
    for key in ["process_name", "command_line"] {
        let (exception, warnings) = good(&format!("{ADDED}, reason: x, {key}: node"));
        assert!(!exception.can_apply());
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        let expected = format!(
            "`exceptions[0].{key}` can be chosen by any process, so it counts only together with \
             `process_executable_path`, `container` or `image`: this exception silences nothing"
        );
        assert!(warning.ends_with(&expected), "{warning}");
        let together = format!("{ADDED}, {PATH}, {key}: node");
        assert!(good(&together).0.can_apply() && good(&together).1.is_empty());
    }
    for key in ["container", "image"] {
        let (exception, warnings) = good(&format!("{ADDED}, reason: x, {key}: node"));
        assert!(exception.can_apply());
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        let expected = "whatever runs in a container that root's runtime made (those of other \
                        users never count); name the program, too, by `process_executable_path`";
        assert!(warning.ends_with(expected), "{warning}");
        for proven in [PATH, "user_id: 0, reason: x"] {
            assert_eq!(good(&format!("{ADDED}, {proven}, {key}: node")).1, [""; 0]);
        }
    }
}

#[test]
fn a_program_alone_is_little_for_a_reverse_shell() {
    let shell = "activity: reverse_shell_detected";
    let keys = format!("{shell}, {PATH}");
    let message = "`exceptions[0].process_executable_path` matches if any process between the \
                   shell and its peer runs it; an attacker who runs it there is silenced, so name \
                   the peer, too, by `address`";
    assert_eq!(good(&keys).1, [place(&keys, "/usr/bin/node") + message]);
    for more in ["address: 10.0.0.7", "user_id: 0", "container: web", "image: web"] {
        assert_eq!(good(&format!("{keys}, {more}")).1, [""; 0], "{more}");
    }
}

#[test]
fn an_exception_that_has_ended_is_a_warning() {
    let keys = format!("{ADDED}, {PATH}, until: 2020-02-29");
    let message = "`exceptions[0].until` was 2020-02-29: the exception has ended and silences \
                   nothing; remove it";
    assert_eq!(good(&keys).1, [place(&keys, "2020-02-29") + message]);
    assert_eq!(good(&format!("{ADDED}, {PATH}, until: 2999-01-01")).1, [""; 0]);
}

#[test]
fn dates_last_to_their_end_and_times_have_an_offset() {
    for (text, seconds) in [
        ("1970-01-01", 86_400),
        ("1970-01-01T00:00:00Z", 0),
        // `date -u -d 2027-04-01 +%s`, and so on.
        ("2027-03-31", 1_806_537_600),
        ("2027-03-31T18:00:00Z", 1_806_516_000),
        ("2027-03-31t18:00z", 1_806_516_000),
        ("2027-03-31 20:00:00+02:00", 1_806_516_000),
        ("2027-03-31T12:30-05:30", 1_806_516_000),
        ("2028-02-29", 1_835_481_600),
        ("2000-02-29T23:59:59Z", 951_868_799),
    ] {
        assert_eq!(end_of(text), Some(seconds), "{text}");
    }
    for wrong in [
        "",
        "2027",
        "2027-3-31",
        "27-03-31",
        "2027-02-29",
        "2100-02-29",
        "2027-00-01",
        "2027-13-01",
        "2027-04-31",
        "2027-04-00",
        "1969-12-31",
        "2027-03-31T18:00",
        "2027-03-31T24:00Z",
        "2027-03-31T18:60Z",
        "2027-03-31T18:00:00+2",
        "2027-03-31T18:00:00+24:00",
        "2027-03-31T",
        "+027-03-31",
        "2027-03-31T18:00:00Zz",
        "31.03.2027",
    ] {
        assert_eq!(end_of(wrong), None, "{wrong}");
    }
}

#[test]
fn addresses_are_single_ones_networks_or_patterns() {
    let network = |text: &str, bits| AddressPattern::Network(text.parse().unwrap(), bits);
    for (text, expected) in [
        ("10.0.0.7", network("10.0.0.7", 32)),
        ("::ffff:10.0.0.7", network("10.0.0.7", 32)),
        ("10.0.0.0/8", network("10.0.0.0", 8)),
        ("2001:DB8::/32", network("2001:db8::", 32)),
        ("10.0.*", AddressPattern::Glob(Glob::new("10.0.*"))),
        ("2001:DB8:*", AddressPattern::Glob(Glob::new("2001:db8:*"))),
    ] {
        assert_eq!(pattern_of(text), Some(expected), "{text}");
    }
    for wrong in ["", "10.0.0", "web", "10.0.0.0/x", "::/129", "10.0.0.1:80", "*.example.com"] {
        assert_eq!(pattern_of(wrong), None, "{wrong}");
    }
}

#[test]
fn check_shows_an_exception_in_one_line() {
    let keys = format!("{ADDED}, {PATH}, user_id: 7, until: 2999-01-01");
    let (configuration, _) = read_one(&keys);
    assert_eq!(
        configuration.exceptions[0].to_string(),
        "alerts executable_permissions_added are silenced, process_executable_path /usr/bin/node, \
         user_id 7, until 2999-01-01: its compiler"
    );
}

const PAGE: &str = include_str!("../../../../../docs/exceptions.md");

#[test]
fn the_examples_of_the_documentation_are_good() {
    let mut count = 0;
    for block in PAGE.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        // One is part of a list.
        let text: String = block
            .lines()
            .map(|line| line.strip_prefix("   ").unwrap_or(line))
            .fold(String::new(), |text, line| text + line + "\n");
        let text = if block.starts_with(' ') { &text } else { block };
        let (configuration, problems) = read(text, Path::new(""), Mode::Run, &Overrides::default());
        assert_eq!(problems, [], "{text}");
        count += configuration.exceptions.len();
        for exception in &configuration.exceptions {
            let line = exception.to_string();
            assert!(exception.until.is_none() || PAGE.contains(&line), "{line}");
        }
    }
    assert_eq!(count, 3);
}
