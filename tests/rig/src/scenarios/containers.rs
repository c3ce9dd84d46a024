//! Containers: when they begin and end, and which programs run in them, checked against the image
//! if it is known.
//!
//! Ids that begin with `a1` belong to the image in the configuration; the image of others is
//! unknown.

use super::{Expected, Scenario, record};

/// The names of busybox in the image.
pub(super) const APPLETS: &[&str] = &["cat", "sh", "sleep"];

/// The pattern of the ids of containers whose image is known.
pub(super) const KNOWN: &str = "a1*";

const STARTED: &str = "container_started";
const TERMINATED: &str = "container_terminated";
/// Files that runtimes and scripts write.
const WRITTEN: &[Expected] =
    &[record(super::CONTENT_CHANGE).with(&[("file_descriptor.file_descriptor_name", "~/run/")])];
/// The same, and an alert because the first process does not match the image. It is raised if a
/// scan met the runtime just before: otherwise the image's entrypoint may have ended by becoming
/// this.
const OTHER_ENTRYPOINT: &[Expected] = &[
    WRITTEN[0],
    record(MOVED).with(&[
        ("process.process_command_line_arguments", "/bin/sh -c /app/other 600; true"),
        ("process.process_container_id", "$id"),
    ]),
];
const FOREIGN: &str = "foreign_binary_executed";
const MOVED: &str = "binary_executed_not_as_intended";

/// A script that begins with functions: `image` assembles the image's layers; `container NAME
/// PREFIX ARGUMENTS` creates `$bundle` and `$id`, a container over an overlay of those layers, with
/// its arguments as JSON; `meets RECORDS CONTAINERS` waits until this many containers run and this
/// many of the expected records have come, then ends them.
macro_rules! script {
    ($script:literal) => {
        concat!(
            r#"
image() {
  [ -d /run/shop ] && return
  mkdir -p /run/shop/base/bin /run/shop/base/dev /run/shop/base/proc /run/shop/own/app
  cp /bin/busybox /run/shop/base/bin/
  for applet in cat sh sleep; do ln -s busybox /run/shop/base/bin/$applet; done
  cp /opt/stranger /run/shop/own/app/serve
}
container() {
  image
  bundle=/run/bundles/$1; id=$2$(echo $1 | sha256sum | cut -c1-62)
  mkdir -p $bundle/rootfs $bundle/upper $bundle/work
  mount -t overlay overlay -o lowerdir=/run/shop/own:/run/shop/base,upperdir=$bundle/upper,workdir=$bundle/work $bundle/rootfs
  cat > $bundle/config.json <<JSON
{"ociVersion":"1.0.0","process":{"terminal":false,"user":{"uid":0,"gid":0},"args":[$3],"env":["PATH=/bin"],"cwd":"/"},
"root":{"path":"rootfs"},"hostname":"$1","mounts":[{"destination":"/proc","type":"proc","source":"proc"},
{"destination":"/dev","type":"tmpfs","source":"tmpfs"}],"linux":{"cgroupsPath":"/docker/$id",
"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"uts"},{"type":"ipc"},{"type":"network"}]}}
JSON
  fact id $id
}
run_crun() { crun --cgroup-manager=cgroupfs run --no-pivot --bundle $bundle $id < /dev/null; }
meets() {
  local programs='^/app/(serve|other) '
  await "[ \$(pgrep -cf '$programs') = ${2:-1} ]"
  seen ${1:-1}; scanned; pkill -KILL -f "$programs"; wait
}
run_runc() { runc run --no-pivot --bundle $bundle $id < /dev/null; }
"#,
            $script
        )
    };
}

const CLEAN: &str =
    "for bundle in /run/bundles/*; do umount $bundle/rootfs; done; rm -r /run/bundles";

/// One container, from beginning to end.
const LIFE: [Expected; 2] = [
    record(STARTED).with(&[("container.container_id", "$id")]),
    record(TERMINATED).with(&[("container.container_id", "$id")]),
];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("P14", "a container of crun, its image known")
        .prepare(script!("container p14 a1 '\"/app/serve\",\"600\"'"))
        .act(script!("bundle=/run/bundles/p14\nact\nrun_crun & meets"))
        .expect(&[
            record(STARTED).with(&[
                ("container.container_id", "$id"),
                ("container.container_runtime", "docker"),
                ("container.container_cgroup_path", "/docker/$id"),
            ]),
            LIFE[1],
        ])
        .besides(WRITTEN)
        .clean(CLEAN),
    Scenario::new("P14b", "a container of runc, its image known")
        .prepare(script!("container p14b a1 '\"/app/serve\",\"600\"'"))
        .act(script!("bundle=/run/bundles/p14b\nact\nrun_runc & meets"))
        .expect(&LIFE)
        .besides(WRITTEN)
        .clean(CLEAN),
    Scenario::new("P14c", "a container without a runtime: control group, namespaces, chroot")
        .prepare(script!(
            "image
             id=$(echo p14c | sha256sum | cut -c1-64); fact id $id
             mkdir -p /sys/fs/cgroup/system.slice/docker-$id.scope"
        ))
        .act(
            "act
             (echo 0 > /sys/fs/cgroup/system.slice/docker-$id.scope/cgroup.procs
              exec unshare --mount --pid --uts --fork chroot /run/shop/base /bin/sleep 600) & pid=$!
             seen 1; scanned; pkill -KILL -xf '/bin/sleep 600'; wait $pid || true",
        )
        .expect(&LIFE)
        .clean("rmdir /sys/fs/cgroup/system.slice/docker-$id.scope"),
    Scenario::new("P14t", "twin: control groups of services and users")
        .prepare("mkdir -p /sys/fs/cgroup/system.slice/ssh.service /sys/fs/cgroup/user.slice/user-1000.slice")
        .act(
            "act
             for group in system.slice/ssh.service user.slice/user-1000.slice; do
               (echo 0 > /sys/fs/cgroup/$group/cgroup.procs; exec sleep 600) & fact pid $!; runs $pid sleep; all=\"${all:-} $pid\"
             done
             scanned; over $all",
        )
        .expect(&[
            record("process_terminated").with(&[
                ("process.process_id", "$pid"),
                ("process.process_command_line_arguments", "sleep 600"),
            ]),
            record(STARTED).times(0),
        ])
        .clean("rmdir /sys/fs/cgroup/system.slice/ssh.service /sys/fs/cgroup/user.slice/user-1000.slice"),
    Scenario::new("P16", "a shipped program under another root")
        .prepare("mkdir -p /tmp/p16/bin; cp /bin/busybox /tmp/p16/bin/")
        .act("act\nchroot /tmp/p16 /bin/busybox sleep 600 & fact pid $!; seen; over $pid")
        .expect(&[record(MOVED).with(&[
            ("elf_file.elf_file_path", "/tmp/p16/bin/busybox"),
            ("process.process_id", "$pid"),
        ])])
        .besides(&[record(super::CONTENT_CHANGE)
            .with(&[("file_descriptor.file_descriptor_name", "/tmp/p16/bin/busybox")])])
        .clean("rm -r /tmp/p16"),
    Scenario::new("C01", "a foreign program in a container whose image is known")
        .prepare(script!(
            "container c01 a1 '\"/app/serve\",\"600\"'
             cp /opt/stranger $bundle/rootfs/app/other; printf x >> $bundle/rootfs/app/other
             sed -i 's#\"/app/serve\",\"600\"#\"/bin/sh\",\"-c\",\"/app/other 600; true\"#' $bundle/config.json
             fact sha256 $(sha256sum < $bundle/rootfs/app/other | cut -d' ' -f1)"
        ))
        .act(script!("bundle=/run/bundles/c01\nact\nrun_crun & meets 2"))
        .expect(&[
            record(FOREIGN).with(&[
                ("elf_file.elf_file_path", "/app/other"),
                ("elf_file.elf_file_hash_sha256", "$sha256"),
                ("process.process_container_id", "$id"),
            ]),
            LIFE[0],
            LIFE[1],
        ])
        .besides(OTHER_ENTRYPOINT)
        .clean(CLEAN),
    Scenario::new("C02", "a container's program with other arguments than the image's")
        .prepare(script!("container c02 a1 '\"/app/serve\",\"601\"'"))
        .act(script!("bundle=/run/bundles/c02\nact\nrun_crun & meets 2"))
        .expect(&[
            record(MOVED).with(&[
                ("elf_file.elf_file_path", "/app/serve"),
                ("process.process_command_line_arguments", "/app/serve 601"),
                ("process.process_container_id", "$id"),
            ]),
            LIFE[0],
            LIFE[1],
        ])
        .besides(WRITTEN)
        .clean(CLEAN),
    Scenario::new("C03", "twin: a container whose image is not known")
        .prepare(script!("container c03 b2 '\"/app/serve\",\"600\"'"))
        .act(script!("bundle=/run/bundles/c03\nact\nrun_crun & meets"))
        .expect(&LIFE)
        .besides(WRITTEN)
        .clean(CLEAN),
    Scenario::new("C04", "twin: ten containers that share their image's layers")
        .prepare(script!("for i in 0 1 2 3 4 5 6 7 8 9; do container c04-$i a1 '\"/app/serve\",\"600\"'; done"))
        .act(script!(
            "act
             for i in 0 1 2 3 4 5 6 7 8 9; do
               bundle=/run/bundles/c04-$i; id=a1$(echo c04-$i | sha256sum | cut -c1-62); run_crun &
             done
             meets 1 10"
        ))
        .expect(&[record(STARTED).times(10), record(TERMINATED).times(10)])
        .besides(WRITTEN)
        .clean(CLEAN),
    Scenario::new("C05", "twin: two hundred containers, one after the other")
        .prepare(script!("image"))
        .act(
            "act
             group() { printf /sys/fs/cgroup/docker/b2%062x $1; }
             for first in {1..200..20}; do
               runs=
               for i in $(seq $first $((first + 19))); do
                 mkdir -p $(group $i)
                 (echo 0 > $(group $i)/cgroup.procs
                  exec unshare --mount chroot /run/shop/base /bin/sleep 600) & runs=\"$runs $!\"
               done
               for pid in $runs; do await 'begins $pid /bin/sleep'; done
               scanned; over $runs
               for i in $(seq $first $((first + 19))); do rmdir $(group $i); done
             done",
        )
        .expect(&[record(STARTED).times(200), record(TERMINATED).times(200)]),
];
