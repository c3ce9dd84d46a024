//! The program from outside: exit codes, standard output and standard error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use panoptes_bounded as bounded;
use serde_json::Value;
use tempfile::TempDir;

struct Run {
    code: i32,
    out: String,
    err: String,
}

fn run_in(folder: &Path, arguments: &[&str]) -> Run {
    let output = bounded::output(
        Command::new(env!("CARGO_BIN_EXE_panoptes"))
            .args(arguments)
            .current_dir(folder)
            .env("HOME", folder)
            .env_remove("XDG_STATE_HOME")
            .stdin(Stdio::null()),
    )
    .expect("the program starts");
    let Output { status, stdout, stderr } = output;
    Run {
        code: status.code().expect("it ends by itself"),
        out: String::from_utf8(stdout).expect("it prints text"),
        err: String::from_utf8(stderr).expect("its messages are text"),
    }
}

fn run(arguments: &[&str]) -> Run {
    run_in(Path::new("/"), arguments)
}

/// Checks that the program ends with `code`, writes `message` to stderr, and prints nothing.
#[track_caller]
fn refuses(arguments: &[&str], code: i32, message: &str) {
    let run = run(arguments);
    assert_eq!(run.code, code, "{arguments:?}: {}", run.err);
    assert!(run.err.contains(message), "{arguments:?}: {}", run.err);
    assert_eq!(run.out, "", "{arguments:?}");
}

/// A folder with a configuration in it.
fn configured(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let file = folder.path().join("p.yaml");
    fs::write(&file, text).expect("there is room for a file");
    (folder, file)
}

#[test]
fn help_and_version_are_no_mistakes() {
    for arguments in [&["--help"][..], &["-h"], &["help"], &["--version"], &["scan", "--help"]] {
        let run = run(arguments);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{arguments:?}");
        assert!(run.out.contains("panoptes"), "{arguments:?}: {}", run.out);
    }
    let help = run(&["--help"]).out;
    for (code, meaning) in [(66, "the source can't be opened"), (78, "the configuration is wrong")]
    {
        assert!(help.contains(&format!("{code}  {meaning}")), "{help}");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    refuses(&[], 2, "Usage");
    refuses(&["frobnicate"], 2, "unrecognized subcommand");
    refuses(&["scna"], 2, "scan");
    refuses(&["scan"], 2, "SYSTEM");
    refuses(&["watch"], 2, "SYSTEM");
    refuses(&["scan", "x", "--only", "processs"], 2, "processes");
    refuses(&["scan", "x", "--json"], 2, "--summary");
    refuses(&["scan", "qemu:-x"], 2, "write qemu:PID");
    refuses(&["scan", "uuid:x"], 2, "write uuid:UUID");
    refuses(&["scan", "libvirt:"], 2, "write libvirt:NAME");
    refuses(&["scan", "qmeu:1"], 2, "did you mean `qemu:`?");
    refuses(&["watch", "/a", "/a"], 2, "named twice");
    refuses(
        &["scan", "x", "--set", "service.scan_interval=5xs"],
        2,
        "--set service.scan_interval=5xs: ",
    );
    refuses(&["scan", "x", "--set", "servce.scan_interval=5ms"], 2, "did you mean `service`?");
    refuses(&["watch", "x", "--limits", "proceses=5"], 2, "did you mean `processes`?");
    refuses(&["watch", "x", "--limits", "smal"], 2, "did you mean `small`?");
    refuses(&["watch", "x", "--limits", "tiny"], 2, "write small, medium or default");
    refuses(&["watch", "x", "--limits", "threads"], 2, "such as threads=8192");
    refuses(&["help", "scna"], 2, "'scan'");
    refuses(&["watch", "x", "--interval", "10min"], 2, "write 10m, with one of the units us, ms");
    refuses(&["watch", "x", "--interval", "10"], 2, "--interval 10: ");
    refuses(&["watch", "x", "--cores", "9999999"], 2, "--cores 9999999: ");
}

#[test]
fn called_argus_it_is_the_flow_auditor() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("argus");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_panoptes"), &link).unwrap();
    let output = bounded::output(Command::new(link).args(["-r", "x", "-w", "y"])).unwrap();
    assert_eq!(output.status.code(), Some(66));
    assert!(String::from_utf8(output.stderr).unwrap().contains("x: No such file"));
}

#[test]
fn a_good_configuration_is_summarised() {
    let (folder, file) = configured("systems: {web: {system: web.mem}}\nservice: {cores: 1}\n");
    let run = run_in(folder.path(), &["check", "p.yaml"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    assert!(run.out.starts_with("p.yaml: ok\n"), "{}", run.out);
    assert!(run.out.contains("watches web (web.mem: a file, else the guest)"), "{}", run.out);

    let run = run_in(folder.path(), &["check", "--json", file.to_str().unwrap()]);
    let answer: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(answer["valid"], true);
    assert_eq!(answer["systems"][0]["name"], "web");
    assert_eq!(answer["systems"][0]["system"], "web.mem");
}

#[test]
fn every_key_is_shown_with_its_value_and_its_origin() {
    let text = "service: {scan_interval: 5ms}\n\
                default: {limits: {threads: 40000}, events: {process_created: false}}\n\
                systems: {web: {system: web.mem, limits: {processes: 7}}}\n";
    let (folder, _) = configured(text);
    let check = ["check", "p.yaml", "--show-effective", "--set", "output.sync=2s"];
    let run = run_in(folder.path(), &check);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let lines: Vec<&str> = run.out.lines().collect();
    for line in [
        "service.scan_interval: 5ms # p.yaml:1:26",
        "service.cores: auto # default",
        "default.limits.threads: 40000 # p.yaml:2:29",
        "default.events.process_created.enabled: false # p.yaml:2:63",
        "default.events.process_created.severity: INFO # default",
        "systems.web.system: web.mem # p.yaml:3:25",
        "systems.web.limits.processes: 7 # p.yaml:3:54",
        // From `default`, as the file has it.
        "systems.web.limits.threads: 40000 # p.yaml:2:29",
        "systems.web.limits.vmas: 262144 # default",
        "output.sync: 2s # --set output.sync=2s",
        "output.telemetry: [] # default",
        "exceptions: [] # default",
    ] {
        assert!(lines.contains(&line), "{line} is not in {}", run.out);
    }
    let run = run_in(folder.path(), &[&check[..], &["--json"]].concat());
    let answer: Value = serde_json::from_str(&run.out).unwrap();
    let effective = answer["effective"].as_array().unwrap();
    let key = serde_json::json!({
        "key": "service.scan_interval", "value": "5ms", "line": 1, "column": 26,
    });
    assert!(effective.contains(&key), "{effective:?}");
    assert_eq!(effective.len(), lines.iter().filter(|line| line.contains(" # ")).count());
}

#[test]
fn a_bad_configuration_is_refused_with_every_mistake() {
    let (folder, _) = configured(
        "service: {log_level: 1}\n\
         system: {}\n\
         output: {telemetry: [{format: jsn}]}\n\
         systems: {a: {system: /a}}\n",
    );
    let run = run_in(folder.path(), &["check", "p.yaml"]);
    assert_eq!((run.code, run.out.as_str()), (78, ""));
    let lines: Vec<&str> = run.err.lines().collect();
    assert_eq!(lines.len(), 4, "{}", run.err);
    assert!(lines[0].starts_with("p.yaml:1:22: `service.log_level`: `1` is not a log level"));
    assert_eq!(lines[1], "p.yaml:2:1: unknown key `system`; did you mean `systems`?");

    let run = run_in(folder.path(), &["check", "p.yaml", "--json"]);
    assert_eq!((run.code, run.err.as_str()), (78, ""));
    let answer: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(answer["valid"], false);
    assert_eq!(answer["errors"].as_array().unwrap().len(), 4);
    assert_eq!(answer["errors"][0]["line"], 1);
    assert_eq!(answer["errors"][0]["column"], 22);

    for arguments in [&["run", "--config", "p.yaml"][..], &["watch", "--config", "p.yaml"]] {
        let run = run_in(folder.path(), arguments);
        assert_eq!((run.code, run.err.lines().count()), (78, 4), "{}", run.err);
    }
    let run = run_in(folder.path(), &["run", "--config", "p.yaml", "--set", "service.cores=maybe"]);
    assert_eq!((run.code, run.err.lines().count()), (78, 5), "{}", run.err);
}

#[test]
fn a_configuration_that_cannot_be_read_is_refused() {
    refuses(&["check", "/missing.yaml"], 78, "/missing.yaml: can't be read: ");
    refuses(&["check", "/"], 78, "/: can't be read: ");
    refuses(&["run", "--config", "/missing.yaml"], 78, "/missing.yaml: can't be read: ");
}

#[test]
fn an_empty_configuration_is_good_and_looks_for_guests() {
    let (folder, _) = configured("");
    let checked = run_in(folder.path(), &["check", "p.yaml"]);
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
    assert!(checked.out.contains("watches every QEMU guest of this machine"), "{}", checked.out);
    fs::write(folder.path().join("none.yaml"), "auto_scan: false").unwrap();
    let refused = run_in(folder.path(), &["run", "--config", "none.yaml"]);
    assert_eq!(refused.code, 78, "{}", refused.err);
    assert!(refused.err.contains("nothing to watch"), "{}", refused.err);
}

#[test]
fn guests_are_listed_and_what_is_none_is_refused() {
    let list: Value = serde_json::from_str(&run(&["systems", "--json"]).out).unwrap();
    let systems = list["systems"].as_array().unwrap();
    let host = systems.iter().find(|system| system["system"] == "host:").unwrap();
    let can_be_read = fs::File::open("/proc/kcore").is_ok();
    assert_eq!(host["can_be_watched"], can_be_read, "{host}");
    assert_eq!(host["obstacle"].is_null(), can_be_read, "{host}");
    let listed = run(&["systems"]);
    assert_eq!(listed.code, 0);
    assert!(listed.out.contains("\nhost:  this machine\n"), "{}", listed.out);
    refuses(&["scan", "qemu:4194304"], 66, "no such process");
    let none = "no guest of this machine has this name";
    refuses(&["scan", "qemu:nobody-has-this"], 66, none);
    let watched = run(&["watch", "qemu:nobody-has-this"]);
    assert!(watched.code == 66 && watched.err.contains(none), "{}", watched.err);
    refuses(&["scan", "nobody-has-this"], 66, "No such file or directory, and no guest of this");
    refuses(&["profile", "build", "qemu:nobody-has-this"], 66, none);
    refuses(&["scan", "libvirt:nobody-has-this"], 66, "libvirt of this machine runs no guest");
    let uuid = "uuid:4dea22b3-1d52-d8f3-2516-782e98ab3fa0";
    refuses(&["scan", uuid], 66, "no guest of this machine has this UUID");
    let this = format!("qemu:{}", std::process::id());
    refuses(&["scan", &this], 66, "which is not QEMU");
}

#[test]
fn the_example_passes_its_check() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/panoptes.yaml");
    let run = run(&["check", example]);
    assert_eq!(run.code, 0, "{}", run.err);
}

#[test]
fn a_doctor_names_what_stands_in_the_way() {
    let (folder, file) = configured(
        "auto_scan: false\nservice: {state_dir: state}\n\
         systems: {web: {system: file, limits: {processes: 16}}}\noutput: {log_folder: file}\n",
    );
    let path = file.to_string_lossy();
    fs::write(folder.path().join("file"), "").unwrap();
    let found = run(&["doctor", "--config", &path, "--json"]);
    let answer: Value = serde_json::from_str(&found.out).unwrap();
    let state = |check: &str| {
        let mut checks = answer["checks"].as_array().unwrap().iter();
        let check = checks.find(|one| one["check"] == check).unwrap();
        (check["state"].as_str().unwrap().to_owned(), check["fix"].is_string())
    };
    // A file is no folder for logs; nothing but that is wrong.
    assert_eq!(state("log_folder"), ("obstacle".to_owned(), true));
    assert_eq!(state("file:"), ("ok".to_owned(), false));
    assert_eq!(state("state_dir"), ("ok".to_owned(), false));
    assert_eq!(state("capabilities"), ("unused".to_owned(), false));
    assert_eq!((found.code, &answer["obstacles"]), (1, &Value::from(1)), "{}", found.out);

    let text = fs::read_to_string(&file).unwrap().replace("log_folder: file", "log_folder: log");
    fs::write(&file, text).unwrap();
    let found = run(&["doctor", "--config", &path]);
    assert_eq!((found.code, found.err.as_str()), (0, ""), "{}", found.out);
    assert!(found.out.ends_with("nothing stands in the way\n"), "{}", found.out);
    assert!(!folder.path().join("log").exists(), "nothing was changed");

    fs::write(&file, "nonsense: 1\n").unwrap();
    let found = run(&["doctor", "--config", &path]);
    assert_eq!(found.code, 1, "{}", found.out);
    assert!(found.out.contains("fix: panoptes check"), "{}", found.out);
}

#[test]
fn a_doctor_looks_for_the_files_that_settings_name() {
    let (folder, file) = configured(
        "auto_scan: false\nservice: {state_dir: state}\n\
         systems: {web: {system: file, os_symbol_path: symbols, limits: {processes: 16}}}\n\
         output:\n\
         \x20 log_folder: log\n\
         \x20 telemetry:\n\
         \x20   - {address: 'siem:6514', transport: tls, tls: {ca: ca.pem}}\n\
         \x20   - {address: 'http://siem', transport: http, headers: {Token: 'file:token'}}\n",
    );
    let path = file.to_string_lossy();
    fs::write(folder.path().join("file"), "").unwrap();
    let found = run(&["doctor", "--config", &path]);
    assert_eq!(found.code, 1, "{}", found.out);
    for text in ["symbols: ", "ca.pem: ", "token: "] {
        let mut lines = found.out.lines().filter(|line| line.starts_with("obstacle"));
        assert!(lines.any(|line| line.contains(text)), "{text}: {}", found.out);
    }
    assert!(found.out.ends_with("3 obstacles stand in the way\n"), "{}", found.out);
    fs::write(folder.path().join("symbols"), "").unwrap();
    fs::write(folder.path().join("token"), "secret\n").unwrap();
    let found = run(&["doctor", "--config", &path]);
    assert!(found.out.ends_with("1 obstacle stands in the way\n"), "{}", found.out);
}

#[test]
fn a_check_names_what_has_an_effect_and_where_records_go() {
    let (folder, _) = configured(
        "systems: {web: {system: file, sdk_log_level: 30}}\n\
         output:\n\
         \x20 log_folder: log\n\
         \x20 rotate_size: 50M\n\
         \x20 telemetry: [{address: 'siem:5170', tag: a}]\n\
         exceptions:\n\
         \x20 - {activity: reverse_shell_detected, process_name: bash, reason: forged}\n\
         \x20 - {activity: reverse_shell_detected, address: 10.0.0.1, until: 2020-01-01, \
         reason: over}\n\
         \x20 - {activity: reverse_shell_detected, address: 10.0.0.2, reason: good}\n",
    );
    let checked = run_in(folder.path(), &["check", "p.yaml"]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    for warning in [
        "`systems.web.sdk_log_level` has an effect only in a doca: system",
        "`output.telemetry[0].tag` has an effect only with `format: forward`",
        "this exception silences nothing",
        "the exception has ended and silences nothing",
    ] {
        assert!(checked.err.contains(warning), "{warning}: {}", checked.err);
    }
    assert!(checked.out.contains("records go to log and siem:5170 (tcp)\n"), "{}", checked.out);
    let silenced: Vec<_> = checked.out.lines().filter(|line| line.contains("silenced")).collect();
    assert_eq!(silenced.len(), 1, "{}", checked.out);
    assert!(silenced[0].ends_with(": good"), "{}", checked.out);
}

#[test]
fn generated_texts_are_complete() {
    let schema: Value = serde_json::from_str(&run(&["schema"]).out).unwrap();
    assert!(schema.is_object());
    let schema: Value = serde_json::from_str(&run(&["schema", "--scan"]).out).unwrap();
    assert!(schema.is_object());
    for shell in ["bash", "zsh", "fish"] {
        let run = run(&["completions", shell]);
        assert_eq!((run.code, run.err.as_str()), (0, ""));
        assert!(run.out.contains("log-folder"), "{shell}");
    }
    let page = run(&["man", "profile", "build"]);
    for word in ["panoptes\\-profile\\-build", "\\-\\-output"] {
        assert!(page.out.contains(word), "{word} is not in {}", page.out);
    }
    refuses(&["man", "frobnicate"], 2, "no command");
    let page = run(&["man"]);
    assert_eq!(page.code, 0);
    for word in [".TH panoptes", "watch", "Exit codes", "78"] {
        assert!(page.out.contains(word), "{word} is not in {}", page.out);
    }
}

#[test]
fn a_closed_pipe_is_no_error_and_a_full_disk_is() {
    let start = |out: Stdio| {
        Command::new(env!("CARGO_BIN_EXE_panoptes"))
            .arg("schema")
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = start(Stdio::piped());
    drop(child.stdout.take());
    let output = bounded::wait_with_output(child).unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));

    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = bounded::wait_with_output(start(full.into())).unwrap();
    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8(output.stderr).unwrap().contains("standard output"));
}

#[test]
fn an_sbom_is_built() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("root")).unwrap();
    fs::write(folder.path().join("root/app"), "abc").unwrap();
    let build = ["sbom", "build", "root"];
    let printed = run_in(folder.path(), &build);
    assert_eq!(printed.code, 0, "{}", printed.err);
    assert!(printed.err.contains("a root directory: 1 file, 1 KiB of content"), "{}", printed.err);
    let sbom: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(sbom["files"][0]["path"], "/app");
    assert_eq!(sbom["files"][0]["md5"], "900150983cd24fb0d6963f7d28e17f72"); // of RFC 1321
    let schema: Value = serde_json::from_str(&run(&["schema", "--sbom"]).out).unwrap();
    jsonschema::validate(&schema, &sbom).unwrap();
    // A file gets the same content, and its old content is replaced.
    fs::write(folder.path().join("out.json"), "old").unwrap();
    let written = run_in(folder.path(), &[&build[..], &["-o", "out.json", "--quiet"]].concat());
    assert_eq!((written.code, written.err.as_str(), written.out.as_str()), (0, "", ""));
    assert_eq!(fs::read_to_string(folder.path().join("out.json")).unwrap(), printed.out);

    let refused = run_in(folder.path(), &["sbom", "build", "none"]);
    assert_eq!(refused.code, 66, "{}", refused.err);
    for option in ["--trust-dpkg", "--trust-rpm"] {
        let refused = run_in(folder.path(), &["sbom", "build", "root", option]);
        assert_eq!(refused.code, 2, "{}", refused.err);
        assert!(refused.err.contains(option), "{}", refused.err);
    }
    fs::write(folder.path().join("bad"), "no hash").unwrap();
    let refused = run_in(folder.path(), &["sbom", "build", "bad"]);
    assert_eq!(refused.code, 65, "{}", refused.err);
    assert!(refused.err.contains("bad:1:1: "), "{}", refused.err);
    let refused = run_in(folder.path(), &["sbom", "build", "root", "-o", "none/x"]);
    assert_eq!(refused.code, 74, "{}", refused.err);
}

#[test]
fn a_start_that_fails_is_reported_on_the_outputs_that_can_be_opened() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("metrics: {{address: '{}'}}", taken.local_addr().unwrap());
    let token = "telemetry: [{transport: http, address: 'http://127.0.0.1:1/', \
                 headers: {A: 'file:missing'}}]";
    for (output, why) in [(&*port, "Address already in use"), (token, "No such file")] {
        let (folder, file) = configured(&format!(
            "auto_scan: false\nservice: {{state_dir: state}}\n\
             output: {{log_folder: log, {output}}}\nsystems: {{a: {{system: /absent}}}}\n"
        ));
        let run = run_in(folder.path(), &["run", "--config", file.to_str().unwrap()]);
        assert_eq!(run.code, 74, "{}{}", run.out, run.err);
        let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
        let [record] = log.lines().collect::<Vec<_>>().try_into().unwrap();
        let record: Value = serde_json::from_str(record).unwrap();
        let data = &record["activity_data"];
        assert_eq!(data["name"], "service_initialization_failed");
        let reason = data["system_activity_details"]["reason"].as_str().unwrap();
        assert!(reason.contains(why), "{reason}");
    }
}
