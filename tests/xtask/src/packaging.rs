//! Checks the files of `packaging/`, also with systemd's own programs and helm, where they are
//! installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use panoptes_bounded as bounded;

use crate::folders::{ROOT, Temporary};

/// What `systemd-analyze security` may say of the unit alone, in tenths.
const BASE_EXPOSURE_MAX: u32 = 15;
/// The same with the drop-in of one kind of source.
const EXPOSURE_MAX: u32 = 25;
const DROP_INS: [&str; 4] = ["qemu", "host", "doca", "flows"];
/// The same of the flow sensor's unit, and of that with its drop-in.
const FLOW_EXPOSURE_MAX: u32 = 20;
const FLOW_XDP_EXPOSURE_MAX: u32 = 25;

fn folder(name: &str) -> Temporary {
    Temporary::new(&format!("packaging-{name}")).expect("there is room for a folder")
}

fn file(name: &str) -> PathBuf {
    Path::new(ROOT).join("packaging").join(name)
}

/// Runs a program of systemd's; `None` if it is not installed.
fn run(command: &mut Command) -> Option<Output> {
    match bounded::output(command) {
        Ok(output) => Some(output),
        Err(error) => {
            let name = command.get_program().to_string_lossy().into_owned();
            panoptes_needs::skip::test_for(&name, error);
            None
        }
    }
}

#[track_caller]
fn succeeds(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{out}{err}");
}

/// A unit, its command, and where its drop-ins are.
struct Unit {
    name: &'static str,
    command: &'static str,
    drop_ins: &'static str,
}

const SERVICE: Unit =
    Unit { name: "panoptes.service", command: "panoptes run", drop_ins: "systemd/drop-ins" };
const FLOW: Unit = Unit {
    name: "panoptes-flow.service",
    command: "panoptes flow -F /etc/panoptes/argus.conf",
    drop_ins: "systemd/flow-drop-ins",
};

impl Unit {
    /// Writes the unit with drop-ins into a folder, with a program that exists here; its path.
    fn write(&self, folder: &Temporary, drop_ins: &[&str]) -> PathBuf {
        let text = text_of(&format!("systemd/{}", self.name));
        assert!(text.contains(&format!("ExecStart=/usr/bin/{}\n", self.command)));
        let path = folder.0.join(self.name);
        fs::write(&path, text.replace("/usr/bin/panoptes", "/bin/true")).expect("there is room");
        let beside = folder.0.join(format!("{}.d", self.name));
        fs::create_dir_all(&beside).expect("there is room");
        for name in drop_ins {
            let name = format!("{name}.conf");
            fs::copy(file(self.drop_ins).join(&name), beside.join(&name)).expect("it exists");
        }
        path
    }
}

/// Checks that systemd understands the unit, and that the unit exposes little.
fn check(unit: &Unit, name: &str, drop_ins: &[&str], most: u32) {
    let folder = folder(name);
    let unit = unit.write(&folder, drop_ins);
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(&unit);
    let Some(output) = run(&mut verify) else { return };
    succeeds(&output);
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager"]).arg(&unit);
    security.arg(format!("--threshold={most}"));
    succeeds(&run(&mut security).expect("it ran before"));
}

#[test]
fn the_unit_of_the_flow_sensor_is_sound_and_exposes_little() {
    check(&FLOW, "flow", &[], FLOW_EXPOSURE_MAX);
    check(&FLOW, "flow-xdp", &["flow-xdp"], FLOW_XDP_EXPOSURE_MAX);
    let folder = fs::read_dir(file(FLOW.drop_ins)).expect("the folder exists");
    assert_eq!(folder.count(), 1, "a drop-in is not checked");
}

/// What the sensor's threads keep is in the table of the sandbox.
#[test]
fn the_flow_sensor_may_receive_packets_and_no_more() {
    for (text, more) in [
        (text_of("systemd/panoptes-flow.service"), ""),
        (text_of("systemd/flow-drop-ins/flow-xdp.conf"), " CAP_NET_ADMIN CAP_BPF"),
    ] {
        let expected = format!("CAP_NET_RAW CAP_NET_BIND_SERVICE{more}");
        assert_eq!(value_of(&text, "CapabilityBoundingSet="), expected);
        assert_eq!(value_of(&text, "AmbientCapabilities="), expected);
    }
    let unit = text_of("systemd/panoptes-flow.service");
    assert_eq!(value_of(&unit, "NoNewPrivileges="), "yes");
    assert_ne!(value_of(&unit, "User="), value_of(&text_of("systemd/panoptes.service"), "User="));
}

/// logrotate rotates what the configuration of the package writes, for the unit's user.
#[test]
fn records_of_flows_are_rotated() {
    let configuration = text_of("flow/argus.conf");
    let records = PathBuf::from(value_of(&configuration, "ARGUS_OUTPUT_FILE="));
    let unit = text_of("systemd/panoptes-flow.service");
    let logs = Path::new("/var/log").join(value_of(&unit, "LogsDirectory="));
    assert_eq!(records.parent(), Some(&*logs));
    let rules = text_of("deb/panoptes-flow.logrotate");
    let pattern = records.with_file_name("*.argus");
    assert!(rules.contains(&format!("{} ", pattern.display())), "{rules}");
    let user = value_of(&unit, "User=");
    assert_eq!(value_of(&rules, "su "), format!("{user} {user}"));
    assert_eq!(value_of(&rules, "create "), format!("0640 {user} {user}"));
    // It would lose records, and a signal would end the sensor.
    assert!(!rules.contains("copytruncate") && !rules.contains("postrotate"), "{rules}");
}

#[test]
fn the_unit_is_sound_and_exposes_little() {
    check(&SERVICE, "base", &[], BASE_EXPOSURE_MAX);
}

#[test]
fn each_drop_in_is_sound_and_exposes_little() {
    for name in DROP_INS {
        check(&SERVICE, name, &[name], EXPOSURE_MAX);
    }
    let folder = fs::read_dir(file("systemd/drop-ins")).expect("the folder exists");
    assert_eq!(folder.count(), DROP_INS.len(), "a drop-in is not checked");
}

/// What no drop-in of another source needs, none of them gives.
#[test]
fn drop_ins_give_what_their_sources_need_and_no_more() {
    let capabilities = |name: &str| {
        let path = file("systemd/drop-ins").join(format!("{name}.conf"));
        let text = fs::read_to_string(path).expect("the drop-in exists");
        let of = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("it has both");
            line.split(' ').map(str::to_owned).collect::<Vec<_>>()
        };
        let bounding = of("CapabilityBoundingSet=");
        assert_eq!(bounding, of("AmbientCapabilities="), "{name}");
        bounding
    };
    let qemu = ["CAP_SYS_PTRACE", "CAP_CHECKPOINT_RESTORE", "CAP_DAC_READ_SEARCH"];
    assert_eq!(capabilities("qemu"), qemu);
    assert_eq!(capabilities("host"), ["CAP_SYS_RAWIO", "CAP_DAC_READ_SEARCH"]);
    assert_eq!(capabilities("flows"), ["CAP_NET_RAW"]);
}

fn text_of(name: &str) -> String {
    fs::read_to_string(file(name)).expect("the file exists")
}

/// What follows the only line that begins so.
fn value_of(text: &str, key: &str) -> String {
    let values = text.lines().filter_map(|line| line.trim_start().strip_prefix(key));
    let [value] = values.collect::<Vec<_>>()[..] else { panic!("{key} is not there once") };
    value.trim().to_owned()
}

#[test]
fn manifests_and_charts_are_of_this_release() {
    let version = env!("CARGO_PKG_VERSION");
    let chart = text_of("helm/panoptes/Chart.yaml");
    assert_eq!(value_of(&chart, "version:"), version);
    assert_eq!(value_of(&chart, "appVersion:"), version);
    for name in ["template", "service"] {
        assert_eq!(value_of(&text_of(&format!("dpf/{name}.yaml")), "version:"), version, "{name}");
    }
    for (name, key) in [
        ("helm/panoptes/values.yaml", "containerImage:"),
        ("kubernetes/daemonset.yaml", "image:"),
        ("dpf/configuration.yaml", "containerImage:"),
        ("dpf/service.yaml", "containerImage:"),
    ] {
        let image = value_of(&text_of(name), key);
        assert!(image.ends_with(&format!("panoptes:{version}")), "{name}: {image}");
    }
}

#[test]
fn the_chart_and_the_manifest_give_a_pod_the_same_capabilities() {
    let manifest = value_of(&text_of("kubernetes/daemonset.yaml"), "add:");
    assert_eq!(value_of(&text_of("helm/panoptes/values.yaml"), "capabilities:"), manifest);
    let drop_in = value_of(&text_of("systemd/drop-ins/qemu.conf"), "AmbientCapabilities=");
    let of_unit = drop_in.replace("CAP_", "").replace(' ', ", ");
    // The unit raises the limit of locked memory instead.
    assert_eq!(manifest, format!("[{of_unit}, IPC_LOCK]"));
}

#[test]
fn probes_ask_the_port_that_the_configuration_serves() {
    let texts =
        ["kubernetes/daemonset.yaml", "helm/panoptes/templates/daemonset.yaml"].map(text_of);
    let values = text_of("helm/panoptes/values.yaml");
    let port = value_of(&values, "metricsPort:");
    for configuration in [&texts[0], &values] {
        assert_eq!(
            value_of(configuration, "metrics:"),
            format!("{{ address: \"0.0.0.0:{port}\" }}")
        );
    }
    assert!(texts[0].contains(&format!("{{ name: metrics, containerPort: {port} }}")));
    let probes = texts.each_ref().map(|text| {
        ["path: /livez, port: metrics", "path: /readyz, port: metrics"]
            .map(|probe| text.matches(probe).count())
    });
    assert_eq!(probes, [[1, 1], [1, 1]]);
}

/// Helm takes a key without a value for an empty one.
#[test]
fn each_value_of_the_chart_has_a_default_and_a_use() {
    let names = ["_helpers.tpl", "configmap.yaml", "daemonset.yaml"];
    let templates: String =
        names.iter().map(|name| text_of(&format!("helm/panoptes/templates/{name}"))).collect();
    let folder = fs::read_dir(file("helm/panoptes/templates")).expect("the folder exists");
    assert_eq!(folder.count(), names.len(), "a template is not checked");
    let is_name = |letter: char| letter.is_ascii_alphanumeric();
    let used: std::collections::BTreeSet<_> = templates
        .split(".Values.")
        .skip(1)
        .filter_map(|text| text.split(|letter| !is_name(letter)).next())
        .collect();
    let values = text_of("helm/panoptes/values.yaml");
    let keys = values.lines().filter(|line| line.starts_with(is_name));
    assert_eq!(used, keys.filter_map(|line| line.split(':').next()).collect());
}

#[test]
fn helm_finds_no_mistake_in_the_chart() {
    let mut lint = Command::new("helm");
    let Some(output) = run(lint.args(["lint", "--strict"]).arg(file("helm/panoptes"))) else {
        return;
    };
    succeeds(&output);
    let mut render = Command::new("helm");
    succeeds(&run(render.args(["template", "a"]).arg(file("helm/panoptes"))).expect("it ran"));
}

#[test]
fn the_parts_for_dpf_have_one_name() {
    for name in ["template", "configuration"] {
        let text = text_of(&format!("dpf/{name}.yaml"));
        assert_eq!(value_of(&text, "deploymentServiceName:"), "panoptes", "{name}");
    }
}

#[test]
fn the_user_and_the_folders_of_the_service_can_be_made() {
    let root = folder("root");
    fs::create_dir(root.0.join("etc")).expect("there is room");
    let option = format!("--root={}", root.0.display());
    let mut users = Command::new("systemd-sysusers");
    let Some(output) = run(users.arg(&option).arg(file("sysusers.d/panoptes.conf"))) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let passwd = fs::read_to_string(root.0.join("etc/passwd")).expect("it has made users");
    let user_of = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name));
        let line = line.expect("the user");
        assert!(line.ends_with(":/usr/sbin/nologin"), "{line}");
        line.split(':').nth(2).expect("a number").to_owned()
    };
    let users = ["panoptes", "panoptes-flow"].map(user_of);
    if !nix::unistd::geteuid().is_root() {
        panoptes_needs::skip::test("root");
        return;
    }
    let mut folders = Command::new("systemd-tmpfiles");
    folders.arg("--create").arg(&option).arg(file("tmpfiles.d/panoptes.conf"));
    let Some(output) = run(&mut folders) else { return };
    succeeds(&output);
    for (name, user) in [
        ("var/log/panoptes", &users[0]),
        ("var/lib/panoptes", &users[0]),
        ("var/log/panoptes-flow", &users[1]),
    ] {
        let facts = fs::metadata(root.0.join(name)).expect("the folder was made");
        let mode = std::os::unix::fs::PermissionsExt::mode(&facts.permissions());
        assert_eq!(mode & 0o7777, 0o750, "{name}");
        let owner = std::os::unix::fs::MetadataExt::uid(&facts).to_string();
        assert_eq!(*user, owner, "{name}");
    }
}
