//! The configuration as a whole: what is refused and where, what overrides what, and that the
//! documented defaults are the real ones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use panoptes_engine::detect::file_content::rules::ChangedFile;
use panoptes_engine::limits::Limits;
use panoptes_records::activities::{Activity, Severity};
use proptest::prelude::*;

use super::problem::is_unprintable;
use super::tree::{ConfigNode, ConfigValue};
use super::*;

mod argus_keys;
mod flows;
mod guest_systems;
mod limits;
mod privacy;
mod program_tags;
mod shapes;
mod telemetry;

const EXAMPLE: &str = include_str!("../../panoptes.yaml");

fn read_file(text: &str) -> (Configuration, Vec<Problem>) {
    read(text, Path::new("/etc/panoptes"), Mode::Run, &Overrides::default())
}

fn read_with(text: &str, overrides: &Overrides) -> (Configuration, Vec<Problem>) {
    read(text, Path::new("/etc/panoptes"), Mode::Watch, overrides)
}

fn set(options: &[&str]) -> Overrides {
    Overrides {
        set: options.iter().map(|text| (*text).to_owned()).collect(),
        ..Overrides::default()
    }
}

fn lines(problems: Vec<Problem>) -> Vec<String> {
    let problems = problems.into_iter().filter(|problem| problem.weight == Weight::Error).collect();
    Report { problems, ..Report::default() }.lines().map(|(_, line)| line).collect()
}

/// All errors of a file, each beginning with its line and column.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let found = lines(read_file(text).1);
    assert_eq!(found, expected, "of {text}");
}

/// A configuration that must have no errors.
#[track_caller]
fn good(text: &str) -> Configuration {
    let (configuration, problems) = read_file(text);
    assert_eq!(lines(problems), Vec::<String>::new(), "of {text}");
    configuration
}

#[test]
fn nothing_at_all_is_a_good_configuration() {
    for text in ["", "\n", "# nothing", "{}", "null", "---\n", "service:\noutput: ~\nsystems: {}\n"]
    {
        assert_eq!(good(text), Configuration::defaults(Mode::Run), "{text:?}");
    }
}

#[test]
fn the_example_has_every_default() {
    assert_eq!(good(EXAMPLE), Configuration::defaults(Mode::Run));
}

#[test]
fn the_example_has_every_key() {
    let context = Context::listing_all(Path::new(""));
    read_in(&context, EXAMPLE, Mode::Run, &Overrides::default());
    let keys = context.keys.unwrap().into_inner();
    let (root, _) = parse(EXAMPLE, &ConfigOrigin::File);
    let missing: Vec<&ConfigKey> = keys.iter().filter(|key| !holds(&root, &key.path)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The keys whose defaults the documentation has.
fn keys_with_defaults() -> Vec<ConfigKey> {
    let is_of_one = |key: &ConfigKey| key.path.starts_with("systems.") || key.path.contains("[0]");
    keys().into_iter().filter(|key| key.form.is_some() && !is_of_one(key)).collect()
}

#[test]
fn every_key_has_the_default_that_is_documented() {
    let defaults = Configuration::defaults(Mode::Run);
    for ConfigKey { path, default, range, .. } in keys_with_defaults() {
        let set = |value: &str| {
            let overrides = set(&[&format!("{path}={value}")]);
            read("", Path::new("/etc/panoptes"), Mode::Run, &overrides)
        };
        let (configuration, problems) = set(&default);
        assert!(problems.is_empty(), "{path}={default}: {problems:?}");
        assert_eq!(configuration, defaults, "{path}={default}");
        let Some((least, greatest)) = range else { continue };
        for bound in [least, greatest] {
            let (configuration, problems) = set(&bound);
            assert_eq!(lines(problems), Vec::<String>::new(), "{path}={bound}");
            let is_default = configuration == defaults;
            assert_eq!(is_default, bound == default, "{path}={bound} has no effect");
        }
    }
}

fn holds(node: &ConfigNode, path: &str) -> bool {
    path.split('.')
        .try_fold(node, |node, key| match &node.value {
            ConfigValue::Map(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            _ => None,
        })
        .is_some()
}

/// The parts of the example that are comments must be correct too.
#[test]
fn the_commented_parts_of_the_example_are_right() {
    let mut text = String::new();
    let mut shown = false;
    for line in EXAMPLE.lines() {
        match line {
            "systems: {}" | "  telemetry: []" | "exceptions: []" => {
                shown = true;
                line.split_inclusive(':').take(1).for_each(|key| text.push_str(key));
            }
            _ => match line.strip_prefix("  # ") {
                // A `#` that remains is a comment within the comment.
                Some(line) if shown => text.extend(["  ", line]),
                _ => {
                    shown = false;
                    text.push_str(line);
                }
            },
        }
        text.push('\n');
    }
    let (configuration, problems) = read_file(&text);
    assert_eq!(configuration.systems.len(), 2, "{text}");
    assert_eq!(configuration.output.telemetry.len(), 3, "{text}");
    assert_eq!(configuration.exceptions.len(), 3, "{text}");
    assert_eq!(lines(problems), Vec::<String>::new(), "{text}");
}

#[test]
fn every_mistake_is_found_at_once_with_its_place() {
    check(
        "service:\n\
         \x20 scan_intervall: 5ms\n\
         \x20 log_level: 55\n\
         \x20 scan_interval: 5xs\n\
         autoscan: true\n\
         default:\n\
         \x20 limits: {processes: 0, threads: many}\n\
         \x20 os_type: Windows\n\
         \x20 events:\n\
         \x20   process_create: {enabled: false}\n\
         \x20   process_hidden: {severity: severe, bytes_in: 5}\n\
         systems:\n\
         \x20 a: {system: file:/a, sbom: ['']}\n\
         \x20 b: {limits: [1]}\n\
         output: 5\n",
        &[
            "2:3: unknown key `scan_intervall` in `service`; did you mean `scan_interval`?",
            "3:14: `service.log_level`: `55` is not a log level; write 10 (DISABLE), \
             20 (CRITICAL), 30 (ERROR), 40 (WARNING), 50 (INFO), 60 (DEBUG) or 70 (TRACE)",
            "4:18: `service.scan_interval`: `5xs` is not a duration; write a number and one \
             of the units us, ms, s, m, h and d, such as 10ms, 1.5s or 1m",
            "5:1: unknown key `autoscan`; did you mean `auto_scan`?",
            "7:23: `default.limits.processes` is 0; it must be from 1 to 4194304",
            "7:35: `default.limits.threads`: `many` is not a whole number; write digits \
             alone, such as 4096",
            "8:12: `default.os_type`: `Windows` is not supported: only Linux can be watched; \
             write Linux",
            "10:5: unknown key `process_create` in `default.events`; did you mean \
             `process_created`?",
            "11:32: `default.events.process_hidden.severity`: `severe` is not a severity; write \
             INFO, LOW, WARNING, MEDIUM, HIGH, ERROR or CRITICAL",
            "11:40: unknown key `bytes_in` in `default.events.process_hidden`; known here: \
             enabled or severity",
            "13:31: `systems.a.sbom`: `` is empty; a path is needed",
            "14:15: `systems.b.limits` must be a mapping of keys to values, not a list; write \
             {processes: 8192}",
            "15:9: `output` must be a mapping of keys to values, not a single value; write \
             {log_folder: /var/log/panoptes}",
        ],
    );
}

#[test]
fn values_of_the_wrong_shape_are_named() {
    check("[]", &["1:1: a configuration must be a mapping of keys to values, not a list"]);
    check(
        "just text",
        &["1:1: a configuration must be a mapping of keys to values, not a single value"],
    );
    check("auto_scan: [true]", &["1:12: `auto_scan` must be a single value, not a list"]);
    check("auto_scan: yes", &["1:12: `auto_scan`: `yes` is not true or false"]);
    check(
        "default: {os_type: [x]}",
        &["1:20: `default.os_type` must be a single value, not a list"],
    );
    check(
        "default: {containers: {include: x}}",
        &["1:33: `default.containers.include` must be a list, not a single value; write [x]"],
    );
    check("default: {sbom: [~]}", &["1:18: `default.sbom` must be a single value, not empty"]);
    check(
        "output: {user_data: {a: b}}",
        &["1:21: `output.user_data` must be a single value, not a mapping of keys to values"],
    );
}

#[test]
fn ranges_are_kept() {
    check(
        "service: {scan_interval: 0ms}",
        &["1:26: `service.scan_interval` is 0ms; it must be from 1ms to 1d"],
    );
    check(
        "output: {rotate_size: 1KiB}",
        &["1:23: `output.rotate_size` is 1KiB; it must be at least 64KiB"],
    );
    check(
        "output: {sync: 0s}",
        &["1:16: `output.sync` is 0ms; it must be from 1ms to 1h, or never or always"],
    );
    check(
        "default: {limits: {string_length: 4294967296}}",
        &["1:35: `default.limits.string_length`: `4294967296` is more than 4294967295"],
    );
}

#[test]
fn servers_of_logins_are_named_by_their_programs_paths() {
    let configuration = good(
        "default:\n\
         \x20 events:\n\
         \x20   reverse_shell_detected: {login_servers: [/usr/local/bin/teleport, \
         '/snap/a/*/worker']}\n\
         systems: {a: {system: web.mem, events: {reverse_shell_detected: {login_servers: []}}}}\n",
    );
    let paths = |events: &Events| {
        events.login_servers.iter().map(|path| path.0.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        paths(&configuration.default.events),
        ["/usr/local/bin/teleport", "/snap/a/*/worker"]
    );
    assert_eq!(paths(&configuration.systems[0].settings.events), [""; 0]);
    let at = |text: &str| {
        format!("default: {{events: {{reverse_shell_detected: {{login_servers: [{text}]}}}}}}")
    };
    let what = "1:61: `default.events.reverse_shell_detected.login_servers`:";
    check(
        &at("teleport"),
        &[&format!("{what} `teleport` is not the path of a program; write an absolute path")],
    );
    check(
        &at("/usr/bin/"),
        &[&format!("{what} `/usr/bin/` is not the path of a program; write an absolute path")],
    );
    check(
        &at("'/usr/bin/*'"),
        &[&format!(
            "{what} `/usr/bin/*` names no program; only its folders may contain `*` and `?`"
        )],
    );
}

#[test]
fn changed_files_matter_by_patterns() {
    let configuration = good(
        "default:\n\
         \x20 events:\n\
         \x20   file_descriptor_file_content_change:\n\
         \x20     include: ['/srv/app/*']\n\
         \x20     exclude: ['*.bak']\n\
         \x20     severity: {/etc/shadow: high, '/etc/*': LOW}\n\
         \x20     others: true\n\
         systems:\n\
         \x20 a: {system: web.mem, events: {file_descriptor_file_content_change: \
         {severity: LOW, others: false}}}\n",
    );
    let content = &configuration.default.events.content;
    let pattern = |text: &str| FilePattern(text.to_owned());
    assert_eq!(content.include, [pattern("/srv/app/*")]);
    assert_eq!(content.exclude, [pattern("*.bak")]);
    let severities = [("/etc/shadow", Severity::High), ("/etc/*", Severity::Low)];
    assert_eq!(content.severities, severities.map(|(text, severity)| (pattern(text), severity)));
    assert!(content.others);
    let activity = Activity::FileDescriptorFileContentChange;
    assert_eq!(configuration.default.events.get(activity).severity, Severity::Medium);
    let own = &configuration.systems[0].settings.events;
    assert_eq!(own.get(activity).severity, Severity::Low);
    assert_eq!((own.content.include.len(), own.content.others), (1, false));
    let at = |text: &str| {
        format!("default: {{events: {{file_descriptor_file_content_change: {{{text}}}}}}}")
    };
    let what = "`default.events.file_descriptor_file_content_change";
    check(
        &at("include: [etc]"),
        &[&format!(
            "1:68: {what}.include`: `etc` is not a pattern of absolute paths; it must begin with \
             `/` or `*`"
        )],
    );
    check(
        &at("severity: {/etc/shadow: very}"),
        &[&format!(
            "1:82: {what}.severity./etc/shadow`: `very` is not a severity; write {}",
            Severity::form()
        )],
    );
}

/// The rule of DOCA Argus: each change is an alert.
#[test]
fn with_compatibility_every_change_is_an_alert() {
    let text = "service: {compatibility: doca_argus}\nsystems: {a: {system: web.mem}}\n";
    let (configuration, _) = read(text, Path::new("/"), Mode::Run, &Overrides::default());
    let of_a = &configuration.systems[0].settings.events.content;
    for content in [&configuration.default.events.content, of_a] {
        let file = ChangedFile { path: Some(b"/tmp/x"), ..ChangedFile::default() };
        assert!(content.rules().matters(&file));
    }
}

#[test]
fn a_system_starts_from_the_default() {
    let configuration = good(
        "systems:\n\
         \x20 a:\n\
         \x20   system: web.mem\n\
         \x20   limits: {processes: 5}\n\
         \x20   events: {process_created: {severity: low}, thread_created: true}\n\
         \x20 b: {system: file:/b}\n\
         default:\n\
         \x20 log_level: debug\n\
         \x20 limits: {processes: 7, threads: 70}\n\
         \x20 os_symbol_path: symbols\n\
         \x20 events:\n\
         \x20   thread_created: false\n\
         \x20   process_created: {enabled: false}\n\
         \x20   tcp_connection_excessive_data: {bytes_in: 1KiB}\n",
    );
    let [a, b] = configuration.systems.as_slice() else { panic!("{configuration:?}") };
    assert_eq!((a.name.as_str(), b.name.as_str()), ("a", "b"));
    let (name, file) = ("web.mem".to_owned(), "/etc/panoptes/web.mem".into());
    assert_eq!(a.address, SystemAddress::Guest(GuestName::Bare { name, file }));
    assert_eq!(b.address, SystemAddress::File("/b".into()));
    assert_eq!(a.settings.limits, Limits { processes: 5, threads: 70, ..Limits::default() });
    assert_eq!(b.settings, configuration.default);
    assert_eq!(a.settings.log_level, Some(LogLevel::Debug));
    let symbols = PathBuf::from("/etc/panoptes/symbols");
    assert_eq!(a.settings.os_symbol_path, AutoOr::Given(symbols));
    let created = a.settings.events.get(Activity::ProcessCreated);
    assert_eq!(created, EventSetting { enabled: EventSwitch::Never, severity: Severity::Low });
    assert!(a.settings.events.is_enabled(Activity::ThreadCreated));
    assert!(!b.settings.events.is_enabled(Activity::ThreadCreated));
    assert_eq!(a.settings.events.thresholds.bytes_in, 1024);
    assert_eq!(a.settings.events.thresholds.bytes_out, 100 << 20);
}

#[test]
fn the_command_line_overrides_the_file() {
    let file = "service: {scan_interval: 1s}\n\
                systems: {a: {system: /a, limits: {processes: 5, threads: 50}}}\n";
    let mut overrides = set(&[
        "service.scan_interval=2s",
        "service.scan_interval=3s",
        "output.user_data=\"a: b\"",
        "systems.\"b.c\".system=/b",
        "default.events.thread_created=false",
        "default.limits={vmas: 9}",
    ]);
    let (configuration, problems) = read_with(file, &overrides);
    assert_eq!(lines(problems), Vec::<String>::new());
    assert_eq!(configuration.service.scan_interval, Duration::from_secs(3));
    assert_eq!(configuration.output.user_data, "a: b");
    assert_eq!(configuration.systems[1].name, "b.c");
    assert_eq!(configuration.systems[1].settings.limits.vmas, 9);
    assert!(!configuration.default.events.is_enabled(Activity::ThreadCreated));

    overrides.interval = Some("4s".to_owned());
    overrides.limits = vec!["processes=6,string-length=64".to_owned()];
    overrides.cores = Some("1,0".to_owned());
    overrides.log_folder = Some("log".into());
    let file = &format!("{file}output: {{stdout: false, log_folder: none}}\n");
    let (configuration, problems) = read_with(file, &overrides);
    assert_eq!(lines(problems), Vec::<String>::new());
    assert_eq!(configuration.service.scan_interval, Duration::from_secs(4));
    assert_eq!(configuration.service.cores, Cores::Given(vec![0, 1]));
    assert_eq!(configuration.output.log_folder, Some(PathBuf::from("log")));
    for system in &configuration.systems {
        assert_eq!(system.settings.limits.processes, 6);
        assert_eq!(system.settings.limits.string_length, 64);
    }
    assert_eq!(configuration.systems[0].settings.limits.threads, 50);
}

#[test]
fn a_mistake_on_the_command_line_names_the_option() {
    let mut overrides = set(&[
        "service.scan_interval=5xs",
        "servise.log_level=50",
        "service.scan_interval",
        "a..b=1",
        "output.user_data=[1",
        "default.limits.processes.x=1",
    ]);
    overrides.limits = vec!["proceses=6,threads,vmas=-1".to_owned()];
    overrides.interval = Some("10".to_owned());
    overrides.cores = Some("two".to_owned());
    let (_, problems) = read_with("default: {limits: {processes: 5}}", &overrides);
    let found = lines(problems);
    let expected = [
        "--cores two: `service.cores`: `two` is not a list of core numbers",
        "--interval 10: `service.scan_interval`: `10` has no unit; write 10ms, 10s or 10m",
        "--limits proceses=6: unknown key `proceses` in `default.limits`; did you mean \
         `processes`?",
        "--limits threads: has no number; write NAME=NUMBER, such as threads=8192",
        "--limits vmas=-1: `default.limits.vmas`: `-1` is not a whole number",
        "--set a..b=1: has an empty key",
        "--set default.limits.processes.x=1: `x` can't be set there",
        "--set output.user_data=[1: this is not valid YAML",
        "--set service.scan_interval: write KEY=VALUE",
        "--set servise.log_level=50: unknown key `servise`; did you mean `service`?",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found:?} does not start with {expected:?}");
    }
    // An option that another option overrides is still checked, if its value is not replaced.
    let (_, problems) = read_with("", &set(&["service.scan_interval=5xs"]));
    assert_eq!(problems.len(), 1);
}

#[test]
fn no_key_reaches_a_message_with_its_control_characters() {
    for (file, option) in [("service", "\t="), ("a\u{7f}: 1", "b\u{1b}=1")] {
        let report = Report { problems: read_with(file, &set(&[option])).1, ..Report::default() };
        assert!(report.has_errors());
        assert!(!report.to_string().replace('\n', "").chars().any(is_unprintable), "{report}");
    }
}

#[test]
fn what_is_not_built_is_checked_and_refused() {
    check(
        "systems:\n\
         \x20 a: {system: 'qemu:12'}\n\
         \x20 b: {system: 'host:'}\n\
         \x20 c: {representor_id: V, dma_device: d}\n\
         \x20 d: {system: 'qemu:-x'}\n",
        &["5:15: `systems.d.system`: `qemu:-x` names no process; write qemu:PID with a process \
             id, \
           or qemu:NAME with the name of a guest"],
    );
    check(
        "output:\n\
         \x20 metrics: {address: 127.0.0.1:9464}\n\
         \x20 telemetry:\n\
         \x20 - {address: 127.0.0.1, format: jsn}\n",
        &[
            "4:15: `output.telemetry[0].address`: `127.0.0.1` is not host:port; write for example \
             127.0.0.1:24224, [::1]:24224 or collector.example.com:24224",
            "4:34: `output.telemetry[0].format`: `jsn` is not one of json, syslog, forward, otlp, \
             ocsf or ecs",
        ],
    );
    check(
        "default: {containers: {include: []}}\noutput: {metrics: {address: ~}, telemetry: []}",
        &[],
    );
    check("default: {memory_regions_path: x, sdk_log_level: 50, file_format: raw}", &[]);
    check(
        "default: {file_format: lime}",
        &["1:24: `default.file_format`: `lime` is not one of auto, raw or dump"],
    );
}

#[test]
fn a_system_names_its_memory_once() {
    check(
        "systems: {a: {representor_id: V}}",
        &["1:31: `representor_id` and `dma_device` belong together; give both"],
    );
    check(
        "systems: {a: {system: /a, dma_device: d}}",
        &["1:39: `systems.a.dma_device` conflicts with `system`; write either \
             `system: doca:DEVICE/VUID`, or `representor_id` and `dma_device`"],
    );
    check("systems: {'': {system: /a}}", &["1:11: the system name `` is empty"]);
    check(
        "default: {system: /a}",
        &["1:19: `system` is for a single system; move it to `systems`"],
    );
}

#[test]
fn a_preset_decides_what_every_system_reports() {
    let a = "systems: {a: {system: /a, events: {file_descriptor_open: true}}, b: {system: /b}}\n";
    let configuration = good(&format!("{a}output: {{preset: alerts}}"));
    let [a, b] = &configuration.systems[..] else { panic!("two systems") };
    let events = [&a.settings.events, &b.settings.events, &configuration.default.events];
    let collected = |activity| events.map(|events| events.is_enabled(activity));
    assert_eq!(collected(Activity::ProcessCreated), [false; 3]);
    assert_eq!(collected(Activity::ReverseShellDetected), [true; 3]);
    assert_eq!(collected(Activity::ServiceInitializationStarted), [true; 3]);
    assert_eq!(collected(Activity::FileDescriptorOpen), [true, false, false]);
    let configuration = good("output: {preset: security}");
    assert!(configuration.default.events.is_enabled(Activity::ProcessCreated));
    assert!(!configuration.default.events.is_enabled(Activity::ThreadCreated));
    check(
        "output: {preset: most}",
        &["1:18: `output.preset`: `most` is not one of alerts, security, everything or auto"],
    );
}

#[test]
fn compact_headers_are_not_for_consumers_of_another_product() {
    assert_eq!(good("output: {header: compact}").output.header, HeaderForm::Compact);
    let text = "service: {compatibility: doca_argus}\noutput: {header: compact}";
    let (_, problems) = read_file(text);
    let messages: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
    assert!(
        matches!(&messages[..], [message] if message.starts_with(
            "`output.header: compact` conflicts with `service.compatibility: doca_argus`"
        )),
        "{messages:?}"
    );
}

#[test]
fn records_must_go_somewhere() {
    check(
        "output: {log_folder: none}",
        &["1:22: `output` sends records nowhere; give it a log_folder, stdout or telemetry"],
    );
    assert_eq!(good("output: {log_folder: none, stdout: true}").output.log_folder, None);
}

#[test]
fn containers_have_patterns_and_images() {
    let text = "default:\n  containers:\n    include: ['web-*']\n    \
                images: {'web-*': nginx:1, db: x}\n\
                systems: {a: {system: /a, containers: {images: {db: 'y@sha256:0'}}}}";
    let configuration = good(text);
    let images = |filter: &crate::config::ContainerFilter| filter.images.clone();
    let default = images(&configuration.default.containers);
    assert_eq!(default, [("web-*".into(), "nginx:1".into()), ("db".into(), "x".into())]);
    let own = &configuration.systems[0].settings.containers;
    assert_eq!(own.include, ["web-*"]);
    assert_eq!(images(own), [("db".into(), "y@sha256:0".into())]);
    check(
        "default: {containers: {images: {a: [b], '': c, d: ''}}}",
        &[
            "1:36: `default.containers.images.a` must be a single value, not a list",
            "1:41: the key `` of `default.containers.images` is empty",
            "1:51: `default.containers.images.d`: `` is empty",
        ],
    );
    check(
        "default: {containers: {images: [a]}}",
        &["1:32: `default.containers.images` must be a mapping of keys to values, not a list"],
    );
}

#[test]
fn something_must_be_watched() {
    check(
        "auto_scan: false",
        &["1:12: nothing to watch: `auto_scan` is off and `systems` is empty"],
    );
    let warnings = |text| {
        let (_, problems) = read_file(text);
        problems.into_iter().filter(|problem| problem.weight == Weight::Warning).count()
    };
    // An empty file watches what it finds.
    assert_eq!(warnings(""), 0);
    assert_eq!(warnings(EXAMPLE), 0);
    // An error hides warnings.
    assert_eq!(warnings("a: b: c"), 0);
    assert_eq!(warnings("systems: {a: {system: /a}}"), 0);
    assert_eq!(warnings("systems: {a: {system: /a}}\nauto_scan: true"), 0);
    assert_eq!(warnings("systems: {a: {system: /a}}\nauto_scan: false"), 0);
}

#[test]
fn tables_that_do_not_fit_each_other_cause_a_warning() {
    let (_, problems) = read_with("default: {limits: {processes: 50000}}", &Overrides::default());
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].weight, Weight::Warning);
    assert!(problems[0].message.contains("every process has a thread"), "{problems:?}");
}

#[test]
fn two_systems_with_one_memory_cause_a_warning() {
    let text = "systems:\n  a: {system: /m}\n  b: {system: /n}\n  c: {system: 'file:/m'}\n";
    let (_, problems) = read_file(text);
    let place = Some(ConfigLocation::File { line: 4, column: 15 });
    let message = "`c` and `a` are both file:/m: it is watched twice";
    assert_eq!(problems, [Problem::warning(place, message)]);
}

#[test]
fn the_loader_reads_files_and_reports_what_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let load = |bytes: &[u8]| {
        let file = folder.path().join("p.yaml");
        std::fs::write(&file, bytes).unwrap();
        let loader =
            Loader { mode: Mode::Watch, file: Some(file), overrides: Overrides::default() };
        loader.load()
    };
    assert!(load(b"auto_scan: false").is_ok());
    let report = load(b"a: \xc3\xa4\nb: \xff").unwrap_err();
    assert!(report.to_string().ends_with("p.yaml:2:4: this byte is not UTF-8 text"), "{report}");
    let report = load(&b"# much\n".repeat(1 << 20)).unwrap_err();
    assert!(report.to_string().contains("is larger than"), "{report}");
    let file = Some(folder.path().join("missing"));
    let report =
        Loader { mode: Mode::Run, file, overrides: Overrides::default() }.load().unwrap_err();
    assert!(report.to_string().contains("missing: can't be read"), "{report}");
    let file = Some(folder.path().to_owned());
    assert!(Loader { mode: Mode::Run, file, overrides: Overrides::default() }.load().is_err());
}

/// Pieces of configurations, valid and invalid, to combine at random.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "service", "default", "systems", "output", "limits", "events", "telemetry", "system",
            "processes", "process_created", "enabled", "address", "sbom", "metrics", "cores",
            "true", "10ms", "64MiB", "file:/a", "qemu:1", "doca:a/b", "auto", "null", "~", "50",
        ])
        .prop_map(str::to_owned),
        6 => prop::sample::select(vec![
            ": ", ":\n", "\n", "\n  ", "\n    ", "- ", "[", "]", "{", "}", ", ", "\"", "'", "&a ",
            "*a", "!!str ", "!x ", "|\n ", ">\n ", "#", "---\n", "...\n", "? ", "<<", "\t", "%",
        ])
        .prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in any::<String>(), option in any::<String>()) {
        let overrides = Overrides {
            set: vec![option.clone()],
            limits: vec![option.clone()],
            interval: Some(option.clone()),
            cores: Some(option),
            log_folder: None,
        };
        let _ = read(&text, Path::new("/"), Mode::Run, &overrides);
    }

    #[test]
    fn nothing_like_a_configuration_makes_reading_panic(
        pieces in prop::collection::vec(piece(), 0..60),
        option in prop::collection::vec(piece(), 0..8),
    ) {
        let text = pieces.concat();
        let overrides = Overrides { set: vec![option.concat()], ..Overrides::default() };
        let (_, problems) = read(&text, Path::new("/"), Mode::Run, &overrides);
        for line in (Report { problems, ..Report::default() }).to_string().lines() {
            prop_assert!(!line.chars().any(is_unprintable), "{line:?}");
        }
    }

    #[test]
    fn no_bytes_make_loading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let loader = Loader {
            mode: Mode::Run,
            file: Some(file.path().to_owned()),
            overrides: Overrides::default(),
        };
        let _ = loader.load();
    }
}
