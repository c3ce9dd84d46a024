//! Containers of real runtimes: each starts once and ends once. Records of processes inside have
//! its context, records of processes outside do not.
//!
//! A guest's root is its initramfs, for which `pivot_root` fails: hence `--no-pivot`. All else is
//! the default of crun and runc.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Instant;

use panoptes_rig::{Flavor, Guest, Userland};
use serde_json::{Value, json};

use crate::record::{Record, list, only};
use crate::watcher::{PATIENCE, Watch, Watcher};
use crate::{barrier, inside, laws};

/// If set to 1, the storm has all of its 200 containers.
const LONG: &str = "PANOPTES_LONG";
/// A bundle with busybox, and one like it for a pod of Kubernetes.
const BUNDLES: &str = "for b in a pod; do \
    mkdir -p /tmp/$b/rootfs/bin /tmp/$b/rootfs/proc /tmp/$b/rootfs/dev; \
    cp /bin/busybox /tmp/$b/rootfs/bin/; ln -s busybox /tmp/$b/rootfs/bin/sleep; \
    cd /tmp/$b; crun spec; \
    sed -i 's/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"sleep\",\"4711\"/; \
        s/\"hostname\": \"[^\"]*\"/\"hostname\": \"host-of-'$b'\"/' config.json; done; \
    sed -i 's!\"linux\": {!\"linux\": { \"cgroupsPath\": \"POD_PATH\",!' /tmp/pod/config.json";
const UID: &str = "6aa3c8f5-ab1c-4e0a-9c59-2b3f8e3b6a10";
const ID: &str = "4f1c0de5a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc";
/// How many containers of the storm run at once. They run until they are reported.
const WAVE: u32 = 10;

/// A watcher of all containers, and one that excludes the container `web`.
struct Both {
    all: Watcher,
    without: Watcher,
}

impl Both {
    /// Waits until both have reported an activity of a container, and returns the record of the
    /// watcher of all.
    fn wait_for(&self, name: &str, id: &str) -> Record {
        wait_for(&self.without, name, id);
        wait_for(&self.all, name, id)
    }
}

fn context(record: &Record) -> &Value {
    &record.0["workload_information"]["container_context"]
}

fn is_of(record: &Record, id: &str) -> bool {
    context(record)["container_id"] == id
}

fn run(guest: &mut Guest, command: &str) -> String {
    inside::run(guest, &format!("{command} 2>&1")).join("\n")
}

/// Starts a container as a service would, and returns the pid of its first process.
fn start(guest: &mut Guest, runtime: &str, bundle: &str, id: &str) -> u64 {
    let state = format!("--root /tmp/{runtime}");
    let options = format!("--no-pivot --detach --pid-file /tmp/{id}.pid --bundle /tmp/{bundle}");
    let output = run(
        guest,
        &format!("{runtime} {state} run {options} {id} </dev/null >/tmp/out 2>&1; cat /tmp/out"),
    );
    let pid = run(guest, &format!("cat /tmp/{id}.pid"));
    pid.trim().parse().unwrap_or_else(|_| panic!("{runtime} did not start {id}: {output}"))
}

/// Runs one more process in a container, and returns its pid.
fn execute(guest: &mut Guest, runtime: &str, id: &str) -> u64 {
    let options = "--detach --pid-file /tmp/second.pid";
    let command = format!("{runtime} --root /tmp/{runtime} exec {options} {id} sleep 4712");
    run(guest, &format!("{command} </dev/null >/dev/null"));
    let pid = run(guest, "cat /tmp/second.pid; rm /tmp/second.pid");
    pid.trim().parse().unwrap_or_else(|_| panic!("{runtime} runs nothing in {id}: {pid}"))
}

/// Waits for a record of a process that its runtime has moved into the container's control group.
fn wait_for_second(watcher: &Watcher, pid: u64, id: &str) -> Record {
    let is_it = |record: &Record| record.process_id() == pid && is_of(record, id);
    watcher.wait_for(&format!("one more in {id}"), is_it)
}

fn delete(guest: &mut Guest, runtime: &str, id: &str) {
    run(guest, &format!("{runtime} --root /tmp/{runtime} delete --force {id}"));
}

fn namespace(guest: &mut Guest, pid: u64, kind: &str) -> String {
    run(guest, &format!("readlink /proc/{pid}/ns/{kind}"))
}

fn wait_for(watcher: &Watcher, name: &str, id: &str) -> Record {
    watcher.wait_for(&format!("{name} of {id}"), |record| record.is(name) && is_of(record, id))
}

/// Compares the record of a container's start with the truth inside the guest.
fn check_started(guest: &mut Guest, watcher: &Watcher, pid: u64, id: &str, path: &str) -> Record {
    let started = wait_for(watcher, "container_started", id);
    let cgroup = run(guest, &format!("cat /proc/{pid}/cgroup"));
    assert_eq!(cgroup.trim(), format!("0::{path}"));
    let details = started.details("container");
    for (key, value) in [
        ("container_id", json!(id)),
        ("container_cgroup_path", json!(path)),
        ("container_first_process_id", json!(pid)),
        ("container_pid_namespace", json!(namespace(guest, pid, "pid"))),
        ("container_mount_points_namespace", json!(namespace(guest, pid, "mnt"))),
        ("container_network_namespace", json!(namespace(guest, pid, "net"))),
    ] {
        assert_eq!(details[key], value, "{started}");
    }
    assert_eq!(started.process_id(), pid, "{started}");
    started
}

/// crun alone: its control group has the container's name.
fn by_crun(guest: &mut Guest, watcher: &Watcher) {
    let first = start(guest, "crun", "a", "web");
    let started = check_started(guest, watcher, first, "web", "/web");
    assert_eq!(
        *context(&started),
        json!({"container_id": "web", "container_name": "web",
        "container_image_name": "example/web:1"})
    );
    let second = execute(guest, "crun", "web");
    let record = wait_for_second(watcher, second, "web");
    assert_eq!(record.process()["process_container_id"], "web");
    let outside = barrier::started(guest, watcher, "sleep 4713");
    let created = watcher.wait_for("one outside", |record| {
        record.is("process_created") && record.life().as_ref() == Some(&outside)
    });
    assert!(context(&created).is_null(), "{created}");
    delete(guest, "crun", "web");
    let ended = wait_for(watcher, "container_terminated", "web");
    assert_eq!(ended.details("container")["container_first_process_id"], first, "{ended}");
}

/// runc with a control group in the form of Kubernetes' runtimes: the pod is known.
fn by_runc_in_a_pod(guest: &mut Guest, both: &Both) {
    let watcher = &both.all;
    let path = format!("/kubepods/burstable/pod{UID}/{ID}");
    let first = start(guest, "runc", "pod", ID);
    let started = check_started(guest, watcher, first, ID, &path);
    wait_for(&both.without, "container_started", ID);
    assert_eq!(started.details("container")["container_pod_uid"], UID);
    let enter = format!("nsenter -t {first} -n busybox");
    run(
        guest,
        &format!(
            "{enter} ip link add eth0 type dummy; {enter} ip addr add 10.244.0.7/24 dev eth0; \
             {enter} ip link set eth0 up"
        ),
    );
    let mut expected = json!({
        "container_id": ID, "pod_uid": UID, "pod_name": "host-of-pod", "node_name": "guest",
    });
    let begin = Instant::now();
    // Not every scan reads the interfaces of a namespace: until then, all but the address is known.
    let record = loop {
        let second = execute(guest, "runc", ID);
        let record = wait_for_second(watcher, second, ID);
        if !context(&record)["pod_ip_address"].is_null() || begin.elapsed() > PATIENCE {
            break record;
        }
        assert_eq!(*context(&record), expected, "{record}");
        run(guest, &format!("kill -KILL {second}"));
    };
    expected["pod_ip_address"] = json!("10.244.0.7");
    assert_eq!(*context(&record), expected, "{record}");
    delete(guest, "runc", ID);
    both.wait_for("container_terminated", ID);
}

/// How often each container started and ended.
fn lives(records: &[Record]) -> BTreeMap<String, (usize, usize)> {
    let mut lives: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for record in records {
        let id = record.details("container")["container_id"].as_str().unwrap_or("").to_owned();
        match record.name() {
            "container_started" => lives.entry(id).or_default().0 += 1,
            "container_terminated" => {
                let life = lives.entry(id).or_default();
                life.1 += 1;
                assert_eq!(life.0, life.1, "{record}");
            }
            _ => {}
        }
    }
    lives
}

/// The id of a container of the storm.
fn stormy(number: u32) -> String {
    format!("{number:064x}")
}

/// Starts and ends many containers with their own namespaces, without a runtime, which would be too
/// slow under emulation.
///
/// While one wave starts, the previous one ends.
fn storm(guest: &mut Guest, both: &Both, containers: u32) {
    let group = "d=/sys/fs/cgroup/docker/$(printf %064x $i)";
    let one = "mkdir -p $d; sh -c \"echo \\$\\$ >$d/cgroup.procs; exec \
        unshare -p -m -u -f sleep 4714\" \
        </dev/null >/dev/null 2>&1 &";
    let mut last: Option<RangeInclusive<u32>> = None;
    for start in (1..=containers).step_by(WAVE as usize) {
        let wave = start..=(start + WAVE - 1).min(containers);
        run(guest, &format!("for i in $(seq {start} {}); do {group}; {one} done", wave.end()));
        if let Some(last) = last.replace(wave.clone()) {
            end_wave(guest, group, &last);
        }
        for number in wave {
            both.wait_for("container_started", &stormy(number));
        }
    }
    if let Some(last) = last {
        end_wave(guest, group, &last);
    }
    for number in 1..=containers {
        both.wait_for("container_terminated", &stormy(number));
    }
}

fn end_wave(guest: &mut Guest, group: &str, wave: &RangeInclusive<u32>) {
    let (first, last) = (wave.start(), wave.end());
    run(
        guest,
        &format!("for i in $(seq {first} {last}); do {group}; echo 1 >$d/cgroup.kill; done"),
    );
    for number in wave.clone() {
        inside::until(guest, &format!("i={number}; {group}; rmdir $d 2>/dev/null"));
    }
}

#[test]
#[ignore = "boots a guest"]
fn containers_of_real_runtimes_begin_and_end_once() {
    let is_long = std::env::var_os(LONG).is_some_and(|value| value == "1");
    let storms = if is_long { 200 } else { 20 };
    println!("a storm of {storms} containers ({LONG}=1: 200)");
    let mut guest = inside::boot_with(Flavor::V6_1, |spec| {
        spec.userland = Userland::Debian;
        spec.memory_mib = 768;
    });
    let path = format!("/kubepods/burstable/pod{UID}/{ID}");
    run(&mut guest, &BUNDLES.replace("POD_PATH", &path));
    let there = start(&mut guest, "crun", "a", "there");
    let images = "default.containers.images={'w*': 'example/web:1'}";
    let all = Watch::of(&guest).set(images).attached();
    let without = Watch::of(&guest).set("default.containers.exclude=[web]").attached();
    let both = Both { all, without };
    by_crun(&mut guest, &both.all);
    by_runc_in_a_pod(&mut guest, &both);
    storm(&mut guest, &both, storms);
    // The end of the container that existed when watching started is reported like the others.
    delete(&mut guest, "crun", "there");
    let ended = both.wait_for("container_terminated", "there");
    assert_eq!(ended.details("container")["container_first_process_id"], there, "{ended}");
    for watcher in [&both.all, &both.without] {
        barrier::passed(&mut guest, watcher);
    }
    let (records, filtered) = (both.all.stop().records, both.without.stop().records);
    laws::hold(&records);
    laws::hold(&filtered);
    let mut expected: BTreeMap<String, (usize, usize)> =
        (1..=storms).map(|number| (stormy(number), (1, 1))).collect();
    expected.extend([("web".to_owned(), (1, 1)), (ID.to_owned(), (1, 1))]);
    let mut all = lives_of(&records);
    assert_eq!(all.remove("there"), Some((0, 1)));
    assert_eq!(all, expected);
    only(&records, "the pod", |record| record.is("container_started") && is_of(record, ID));
    // The filter leaves out one container and nothing else. It silences no alert, and the output of
    // a container is a file that was written.
    let is_alert = |record: &Record| record.is("file_descriptor_file_content_change");
    let of_web = filtered.iter().filter(|record| is_of(record, "web") && !is_alert(record));
    assert_eq!(of_web.clone().count(), 0, "{}", list(of_web));
    let mut all = lives_of(&filtered);
    assert_eq!(all.remove("there"), Some((0, 1)));
    expected.remove("web");
    assert_eq!(all, expected);
}

/// The same, but for the container that existed when watching started, only its ends count.
fn lives_of(records: &[Record]) -> BTreeMap<String, (usize, usize)> {
    let is_there = |record: &&Record| record.details("container")["container_id"] == "there";
    let others: Vec<Record> = records.iter().filter(|record| !is_there(record)).cloned().collect();
    let mut all = lives(&others);
    let ends = records.iter().filter(is_there).filter(|r| r.is("container_terminated")).count();
    all.insert("there".to_owned(), (0, ends));
    all
}
