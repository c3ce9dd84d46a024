//! A service that writes as DOCA Argus does, and one machine that does all that it can be made to
//! do: the records of every activity have what the known consumers read.
//!
//! The lists of fields are those of the sinks' test of synthetic records (`consumers`), and
//! `drop_in` has the reasons for which a field may be missing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use panoptes_decoders::address::KernelVa;
use panoptes_records::activities::Activity;
use panoptes_rig::standin::Standin;
use panoptes_rig::{Flavor, Guest, Kernel};

use crate::kernel::{From, GuestKernel};
use crate::record::Record;
use crate::watcher::{Watch, Watcher, panoptes};
use crate::{attestation, barrier, drop_in, hidden, inside};

/// The activities that this test does not provoke, and why.
const NOT_PROVOKED: [(Activity, &str); 9] = [
    (Activity::FlowsLimitReached, "`panoptes flow` alone reports it: `flow_options`"),
    (Activity::HiddenConnectionDetected, "`panoptes flow --system` alone reports it: `wire`"),
    (Activity::HiddenListenerDetected, "`panoptes flow --system` alone reports it: `wire`"),
    (Activity::KernelHookDetected, "code in the kernel needs a module that is not the kernel's"),
    (Activity::KernelCodeWithoutOwner, "as above"),
    (Activity::KernelTextModified, "as above"),
    (Activity::ServiceRuntimeFailure, "only a mistake in the program has it: `runtime_failures`"),
    (Activity::TestAlert, "`panoptes test-alert` alone reports it: `recipes`"),
    (Activity::SystemStalled, "a machine must run for 10 s while its kernel's clock stands still"),
];

/// The acts of the agent's tour, and the activities that follow each of them.
const TOUR: [(&str, &[&str]); 21] = [
    ("begin", &["process_created"]),
    ("thread", &["thread_created"]),
    ("thread-ends", &["thread_terminated"]),
    ("open", &["file_descriptor_open"]),
    ("map", &["new_file_mapped", "process_memory_created"]),
    ("unmap", &["file_unmapped", "process_memory_terminated", "file_descriptor_close"]),
    ("make-executable", &["new_executable_anonymous_memory_mapped"]),
    ("make-readable", &["executable_permissions_removed"]),
    ("executable-again", &["executable_permissions_added"]),
    ("connect", &["network_connection_created"]),
    ("disconnect", &["tcp_network_connection_state_change", "network_connection_terminated"]),
    ("zombie", &["process_zombie"]),
    ("reap", &["process_terminated"]),
    ("program", &["process_created"]),
    ("program-ends", &["process_terminated"]),
    ("listen", &[]),
    (
        "reverse-shell",
        &[
            "reverse_shell_detected",
            "tcp_connection_excessive_data",
            "tcp_network_connection_status",
            "tcp_long_lasting_connection",
        ],
    ),
    ("look", &["shell_command_executed"]),
    ("clear", &["shell_history_cleared"]),
    ("leave", &["process_terminated"]),
    ("end", &[]),
];

/// What tables that are too small, and too many events, lead to.
const TOO_MUCH: [&str; 9] = [
    "process_limit_reached",
    "threads_limit_reached",
    "file_handles_limit_reached",
    "process_memory_limit_reached",
    "network_connections_limit_reached",
    "containers_limit_reached",
    "coverage_degraded",
    "coverage_report",
    "events_summed_up",
];

/// What the other systems lead to, and what follows when there is room again.
const FAILURES: [&str; 8] = [
    "host_initialization_failed",
    "os_identifier_discovery_extended",
    "unable_to_determine_target_os",
    "no_matching_profile_found",
    "profile_verification_failed",
    "profile_parsing_failed",
    "load_mem_regions_successful",
    "coverage_restored",
];

/// The id of a container, and the control group of a pod.
const ID: &str = "4f1c0de5a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc";
const POD: &str = "kubepods/burstable/pod6aa3c8f5-ab1c-4e0a-9c59-2b3f8e3b6a10";
const GROUPS: &str = "/sys/fs/cgroup";
/// The address that the pod has.
const ADDRESS: &str = "10.244.0.7";
/// A FIFO to which no process writes.
const IDLE: &str = "/tmp/idle";

/// The machine, the service that watches it, and the service's configuration.
struct Stage<'a> {
    guest: &'a mut Guest,
    watcher: &'a Watcher,
    configuration: &'a Path,
    /// How many records there were before the last act.
    seen: usize,
}

impl Stage<'_> {
    /// Runs a command to its end.
    fn runs(&mut self, command: &str) {
        self.seen = self.watcher.seen();
        inside::run(self.guest, command);
    }

    /// Starts a command that needs no input.
    fn starts(&mut self, command: &str) {
        self.seen = self.watcher.seen();
        inside::start(self.guest, command);
    }

    /// Waits for a record since the last act.
    #[track_caller]
    fn sees(&self, name: &str) {
        self.watcher.wait_for_since(self.seen, name, |record| record.is(name));
    }
}

fn as_argus(watch: Watch) -> Watch {
    watch.set("service.compatibility=doca_argus").set("output.preset=everything")
}

/// A DMA device whose functions have memory without a kernel.
fn device(empty: &Path) -> Standin {
    let empty = empty.display();
    Standin::new(&format!(
        "device mlx5_0 0000:03:00.0\nfunction ONE PF {empty}\nfunction OTHER PF {empty}\n"
    ))
    .unwrap()
}

/// A start that fails at once: nothing states where the function's memory is.
fn start_that_fails(device: &Standin) -> Vec<Record> {
    let library = format!("service.doca_library_path={}", device.library().display());
    let function = Path::new("doca:mlx5_0/ONE");
    let ended = as_argus(Watch::files(&[function])).set(&library).start().ended();
    assert_eq!(ended.code, Some(66), "{:?}", ended.said);
    ended.records
}

/// Writes the configuration of a service for which the machine is too large. Its other systems
/// cannot be watched: with memory in which no kernel is, without a profile, and with profiles that
/// do not fit.
fn configure_failures(guest: &Guest, device: &Standin, folder: &Path) -> PathBuf {
    let path = |name: &str| folder.join(name).display().to_string();
    let ram = guest.ram_path().display().to_string();
    let built = panoptes(&["profile", "build", &ram, "-o", &path("right")]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let right = fs::read_to_string(folder.join("right")).unwrap();
    let regions = r#"{"allowed_regions": {"0": {"length": 4194303, "start": 0},}}"#;
    for (name, text) in [
        ("wrong", right.replacen("\"comm\":[", "\"comm\":[1", 1)),
        ("damaged", right[..100].to_owned()),
        ("regions", regions.to_owned()),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    for link in ["ram-1", "ram-2", "ram-3"] {
        symlink(guest.ram_path(), folder.join(link)).unwrap();
    }
    let processes = inside::processes(guest).len() + 15;
    let text = format!(
        "auto_scan: false
profile_generation: false
built_in_profiles: false
service: {{ compatibility: doca_argus, doca_library_path: {library} }}
output: {{ preset: everything }}
systems:
  small:
    system: file:{ram}
    os_symbol_path: {right}
    limits: {{ processes: {processes}, threads: 20, file_descriptors: 200, vmas: 100,
              connections: 5, containers: 1, events_per_second: 5 }}
  empty: {{ system: 'file:{empty}' }}
  unknown: {{ system: 'file:{one}' }}
  wrong: {{ system: 'file:{two}', os_symbol_path: {wrong} }}
  damaged: {{ system: 'file:{three}', os_symbol_path: {damaged} }}
  nothing: {{ system: 'doca:mlx5_0/OTHER', memory_regions_path: {regions} }}
",
        library = device.library().display(),
        right = path("right"),
        wrong = path("wrong"),
        damaged = path("damaged"),
        regions = path("regions"),
        empty = path("empty"),
        one = path("ram-1"),
        two = path("ram-2"),
        three = path("ram-3"),
    );
    let configuration = folder.join("failures.yaml");
    fs::write(&configuration, text).unwrap();
    configuration
}

/// Watches with tables that are too small. They are full as long as there is a load, and then not.
fn with_small_tables(guest: &mut Guest, configuration: &Path) -> Watcher {
    let watcher = Watch::configured(configuration, 1).every("1ms").attached();
    guest.agent("load processes=30 threads=4 fds=20 areas=20 connections=3").unwrap();
    let each = format!("for i in 1 2; do d={GROUPS}/docker/$(printf %064x $i)");
    inside::run(
        guest,
        &format!(
            "{each}; mkdir -p $d; sh -c \"echo \\$\\$ >$d/cgroup.procs; exec sleep 7000\" \
             </dev/null >/dev/null 2>&1 & done"
        ),
    );
    miss_births(guest, &watcher);
    for name in TOO_MUCH {
        watcher.wait_for(name, |record| record.is(name));
    }
    guest.agent("kill-all").unwrap();
    inside::run(guest, &format!("{each}; echo 1 >$d/cgroup.kill; done"));
    watcher.wait_for("there is room", |record| record.is("limit_cleared"));
    watcher
}

/// Processes begin and end while nobody scans. Too many do for each to be recovered from what the
/// kernel has freed.
fn miss_births(guest: &mut Guest, watcher: &Watcher) {
    kill(watcher.pid(), Signal::SIGSTOP).unwrap();
    inside::run(guest, "i=0; while [ $i -lt 200 ]; do busybox true; i=$((i + 1)); done");
    kill(watcher.pid(), Signal::SIGCONT).unwrap();
}

/// Writes the configuration of the service: an SBOM of the machine's root, an image, low
/// thresholds, and a receiver that does not exist.
fn configure(guest: &Guest, kernel: &Kernel, folder: &Path) -> PathBuf {
    let copies = [
        ("bin/busybox", "opt/busybox-longer".to_owned()),
        ("usr/bin/bash", "usr/bin/dpkg".to_owned()),
    ];
    let sbom = attestation::sbom(kernel, folder, &copies);
    let text = format!(
        "auto_scan: false
service: {{ compatibility: doca_argus }}
output:
  preset: everything
  telemetry: [{{ address: '127.0.0.1:1', transport: tcp, backlog: 64KiB }}]
systems:
  guest:
    system: file:{ram}
    limits: {{ string_length: 4096 }}
    sbom: [{sbom}]
    containers: {{ images: {{ '{image}*': 'registry.example/web:1@sha256:{digest}' }} }}
    events:
      process_zombie: {{ after: 100ms }}
      process_memory_created: true
      process_memory_terminated: true
      tcp_connection_excessive_data: {{ bytes_in: 1, bytes_out: 1 }}
      tcp_long_lasting_connection: {{ duration: 1s }}
      tcp_network_connection_status: {{ enabled: true, period: 500ms }}
",
        ram = guest.ram_path().display(),
        sbom = sbom.display(),
        image = drop_in::WITH_IMAGE,
        digest = "0a7c52e9".repeat(8),
    );
    let path = folder.join("panoptes.yaml");
    fs::write(&path, text).unwrap();
    path
}

fn tour(stage: &mut Stage<'_>) {
    for (act, names) in TOUR {
        stage.seen = stage.watcher.seen();
        stage.guest.agent(&format!("tour {act}")).unwrap();
        for name in names {
            stage.sees(name);
        }
        barrier::passed(stage.guest, stage.watcher);
    }
    for line in ["true", "set +o history"] {
        stage.seen = stage.watcher.seen();
        stage.guest.agent(&format!("shell {line}")).unwrap();
    }
    stage.sees("shell_history_disabled");
    stage.starts("sh -c 'sleep 1; exec sleep 7001'");
    stage.sees("process_executed");
}

/// A container of Docker and one of a pod, without a runtime.
fn containers(stage: &mut Stage<'_>) {
    let enter =
        |group: &str| format!("d={GROUPS}/{group}/{ID}; mkdir -p $d; echo $$ >$d/cgroup.procs");
    stage.starts(&format!("sh -c '{}; exec unshare -p -m -u -f sleep 7002'", enter("docker")));
    stage.sees("container_started");
    let inner = format!(
        "busybox hostname web-7f9c; ip addr add {ADDRESS}/24 dev lo; ip link set lo up; \
         sleep 3; sleep 7003"
    );
    let pod = format!("{}; exec unshare -p -m -u -n -f sh -c \"{inner}\"", enter(POD));
    stage.starts(&format!("sh -c '{pod}'"));
    stage.sees("container_started");
    stage.watcher.wait_for_since(stage.seen, "the pod's address", |record| {
        record.0["workload_information"]["container_context"]["pod_ip_address"] == ADDRESS
    });
    stage.runs(&format!("echo 1 >{GROUPS}/docker/{ID}/cgroup.kill"));
    stage.sees("container_terminated");
}

/// Files that matter are changed: by a descriptor, by their paths, and by a package manager.
fn files(stage: &mut Stage<'_>) {
    let write = |file: &str| format!("exec 7>>{file}; sleep 1; echo x >&7; sleep 1; exec 7>&-");
    stage.runs(&write("/etc/written"));
    stage.sees("file_descriptor_file_content_change");
    stage.runs("ln -f /etc/group /etc/passwd");
    stage.sees("file_content_change");
    stage.runs("chmod 4755 /etc/written");
    stage.sees("file_permissions_changed");
    inside::run(stage.guest, "cp /usr/bin/bash /usr/bin/dpkg");
    stage.runs(&format!("/usr/bin/dpkg -c '{}; sleep 1'", write("/etc/packed")));
    stage.sees("package_files_changed");
}

/// Programs and libraries that differ from the SBOM.
fn programs(stage: &mut Stage<'_>) {
    let (library, longer) = ("/lib/x86_64-linux-gnu/libtinfo.so.6", "/opt/busybox-longer");
    let shell = format!("bash -c 'read x <>{IDLE}'");
    attestation::flipped(stage.guest, "/bin/busybox", "/tmp/busybox-foreign");
    attestation::flipped(stage.guest, library, "/tmp/x.so");
    inside::run(
        stage.guest,
        &format!(
            "busybox mkfifo {IDLE}; mkdir -p /opt; cp /bin/busybox {longer}; echo x >>{longer}; \
             cp /bin/busybox /tmp/busybox-copy; cp {library} /tmp/longer; echo x >>/tmp/longer"
        ),
    );
    for (command, name) in [
        ("/tmp/busybox-foreign sleep 7004", "foreign_binary_executed"),
        (&format!("{longer} sleep 7005"), "foreign_binary_executed_file_size_mismatch"),
        ("/tmp/busybox-copy sleep 7006", "binary_executed_not_as_intended"),
        (&format!("LD_PRELOAD=/tmp/x.so {shell}"), "foreign_library_loaded"),
    ] {
        stage.starts(command);
        stage.sees(name);
    }
    inside::run(stage.guest, &format!("mv /tmp/longer {library}"));
    stage.starts(&shell);
    stage.sees("foreign_library_loaded_file_size_mismatch");
}

/// A rootkit's work, in the paused machine's memory: a process is hidden, and the count of forks is
/// set back.
fn rootkit(stage: &mut Stage<'_>) {
    let mut kernel = GuestKernel::of(stage.guest);
    let forks = inside::run(stage.guest, "grep \" total_forks$\" /proc/kallsyms").concat();
    let forks = forks.split_whitespace().next().unwrap();
    let forks = KernelVa(u64::from_str_radix(forks, 16).unwrap());
    // The one between the others is in no list next to the list's head.
    let lives = ["setsid sleep 7007", "sleep 7008", "sleep 7009"]
        .map(|command| barrier::started(stage.guest, stage.watcher, command));
    stage.seen = stage.watcher.seen();
    hidden::pause_at_rest(stage.guest, &mut kernel);
    let task = kernel.task(u32::try_from(lives[1].process_id).unwrap());
    stage.guest.memory_is_patched();
    let place = kernel.hide(&task, From::TaskList);
    kernel.set(forks, 1);
    stage.guest.resume().unwrap();
    stage.sees("process_hidden");
    stage.sees("clock_tampered");
    hidden::while_paused(stage.guest, || kernel.show(&place));
}

/// A module comes and goes. Then a rootkit's work again: one is changed, and one is hidden.
fn modules(stage: &mut Stage<'_>) {
    const MODULE: &str = "can_raw";
    stage.runs(&format!("rmmod {MODULE}"));
    stage.sees("kernel_module_unloaded");
    stage.runs(&format!("insmod /modules/{MODULE}.ko"));
    stage.sees("kernel_module_loaded");
    let mut kernel = GuestKernel::of(stage.guest);
    stage.seen = stage.watcher.seen();
    hidden::while_paused(stage.guest, || kernel.taint_module(MODULE, 1 << 12));
    stage.sees("kernel_module_changed");
    let mut place = None;
    hidden::while_paused(stage.guest, || place = Some(kernel.hide_module(MODULE)));
    stage.sees("kernel_module_hidden");
    hidden::while_paused(stage.guest, || kernel.show(&place.unwrap()));
}

/// The agent loads programs of eBPF, two of which are dangerous, and attaches some. A rootkit's
/// work is one that is hidden.
fn ebpf_programs(stage: &mut Stage<'_>) {
    stage.seen = stage.watcher.seen();
    stage.guest.agent("bpf open").unwrap();
    for name in ["ebpf_program_loaded", "ebpf_program_attached", "ebpf_program_dangerous"] {
        stage.sees(name);
    }
    let (mut kernel, mut place) = (GuestKernel::of(stage.guest), None);
    stage.seen = stage.watcher.seen();
    hidden::while_paused(stage.guest, || place = Some(kernel.hide_ebpf_program("signals")));
    stage.sees("ebpf_program_hidden");
    hidden::while_paused(stage.guest, || kernel.show(&place.unwrap()));
    stage.seen = stage.watcher.seen();
    stage.guest.agent("bpf close").unwrap();
    for name in ["ebpf_program_detached", "ebpf_program_unloaded"] {
        stage.sees(name);
    }
}

/// A configuration whose SBOMs are missing, one with a mistake, and one that is used.
fn reloads(stage: &mut Stage<'_>, folder: &Path) {
    let nothing = folder.join("nothing");
    fs::create_dir(&nothing).unwrap();
    let missing = format!("sbom: [{0}/x.json, {0}, ", nothing.display());
    let before = fs::read_to_string(stage.configuration).unwrap();
    let names = ["invalid_sbom_configuration_file", "invalid_sbom_configuration_folder"];
    for (from, to, names) in [
        ("sbom: [", missing.as_str(), &names[..]),
        ("period: 500ms", "period: never", &["configuration_refused"]),
        ("period: 500ms", "period: 700ms", &["configuration_reloaded"]),
    ] {
        stage.seen = stage.watcher.seen();
        fs::write(stage.configuration, before.replace(from, to)).unwrap();
        kill(stage.watcher.pid(), Signal::SIGHUP).unwrap();
        for name in names {
            stage.sees(name);
        }
    }
}

/// All acts while the machine is watched.
fn watch_all_acts(guest: &mut Guest, watcher: &Watcher, configuration: &Path) {
    let mut stage = Stage { guest, watcher, configuration, seen: 0 };
    tour(&mut stage);
    containers(&mut stage);
    files(&mut stage);
    programs(&mut stage);
    rootkit(&mut stage);
    modules(&mut stage);
    ebpf_programs(&mut stage);
    reloads(&mut stage, configuration.parent().unwrap());
    stage.guest.agent("zoo").unwrap();
    barrier::passed(stage.guest, stage.watcher);
    watcher.wait_for("records are lost", |record| record.is("records_dropped"));
}

#[test]
#[ignore = "boots a guest"]
fn live_records_of_every_activity_have_what_consumers_read() {
    let flavor = Flavor::V6_12;
    let mut guest = inside::boot(flavor);
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::write(&empty, vec![0; 4 << 20]).unwrap();
    let device = device(&empty);
    let failed = start_that_fails(&device);
    let failures = configure_failures(&guest, &device, folder.path());
    let small = with_small_tables(&mut guest, &failures);
    let configuration = configure(&guest, &Kernel::obtain(flavor).unwrap(), folder.path());
    let watcher = Watch::configured(&configuration, 1).attached();
    watch_all_acts(&mut guest, &watcher, &configuration);
    for name in FAILURES {
        small.wait_for(name, |record| record.is(name));
    }
    guest.quit().unwrap();
    watcher.wait_for("the machine's end", |record| {
        record.is("details_gathering_failed") && !record.system().is_empty()
    });
    let runs = [failed, small.stop().records, watcher.stop().records];
    let names: BTreeSet<&str> = runs.iter().flatten().map(Record::name).collect();
    println!("{} records of {} activities", runs.iter().flatten().count(), names.len());
    for activity in Activity::ALL {
        let reason = NOT_PROVOKED.iter().find(|(one, _)| one == activity).map(|(_, why)| why);
        let name = activity.name();
        assert_eq!(names.contains(name), reason.is_none(), "{name}: {reason:?}");
    }
    drop_in::check(&runs);
    check_reasons(&runs);
}

/// Each reason names the file, the process, the address, the module or the program of eBPF that the
/// alert is about. The kernel's clock is none of these, and neither is a number of alerts.
fn check_reasons(runs: &[Vec<Record>]) {
    let alerts = runs.iter().flatten().filter(|record| record.0["message_type"] == "ALERT");
    let others = ["clock_tampered", "alerts_summed_up"];
    for alert in alerts.filter(|record| !others.iter().any(|name| record.is(name))) {
        let data = &alert.0["activity_data"];
        let reason = alert.0["detection"]["reason"].as_str().unwrap();
        let names = [
            &data["file_details"]["file_path"],
            &data["elf_file_details"]["elf_file_path"],
            &data["file_descriptor_details"]["file_descriptor_name"],
            &data["process_details"]["process_id"],
            &data["network_connection_details"]["source_ip_address"],
            &data["kernel_module_details"]["kernel_module_name"],
            &data["kernel_code_details"]["kernel_code_address"],
            &data["ebpf_program_details"]["ebpf_program_tag"],
        ];
        let names = names.map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned));
        let names_it = data["reverse_shell_details"].is_object()
            || names.iter().any(|name| name != "null" && reason.contains(name.as_str()));
        assert!(names_it, "{}: {reason}", alert.name());
    }
}
