//! Processes: their names, the programs they run, how they begin and end.
//!
//! Most of these acts cause events and no alert: the scenarios check the values in the records.

use super::{CONTENT_CHANGE, Expected, Scenario, Stage, record};

const CREATED: &str = "process_created";
const TERMINATED: &str = "process_terminated";
const MAPPED: &str = "new_file_mapped";

/// A record about the process `$pid`.
const fn of(activity: &'static str) -> Expected {
    record(activity).with(&[("process.process_id", "$pid")])
}

/// The end of a process, with its attributes.
const fn ended(fields: &'static [(&'static str, &'static str)]) -> Expected {
    record(TERMINATED).with(fields)
}

const fn scenario(id: &'static str, name: &'static str) -> Scenario {
    Scenario::new(id, name).stage(Stage::Behaviour)
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("P01", "a program is started, and ends")
        .act(
            "act
             (cd /tmp; exec sleep 600.61) & fact pid $!; fact parent $$
             runs $pid sleep; scanned; over $pid",
        )
        .expect(&[
            of(CREATED),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_parent_process_id", "$parent"),
                ("process.process_name", "sleep"),
                ("process.process_executable_path", "/usr/bin/sleep"),
                ("process.process_command_line_arguments", "sleep 600.61"),
                ("process.process_current_working_directory", "/tmp"),
                ("process.process_real_user_id", "0"),
                ("process.process_effective_user_id", "0"),
            ]),
        ]),
    scenario("P02", "a process forks and runs no other program")
        .act(
            "act
             python3 -c 'import os, pace, signal, sys
pid = os.fork()
if pid: print(\"@fact pid\", pid); sys.stdout.flush(); pace.scanned(); os.kill(pid, 9); os.wait()
else: signal.pause()'",
        )
        .expect(&[
            of(CREATED),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_executable_path", "/usr/bin/python3.11"),
            ]),
        ]),
    scenario("P03", "a process becomes another program")
        .prepare("rm -f /tmp/p03; mkfifo /tmp/p03")
        .act(
            "act
             bash -c 'read -r _ < /tmp/p03; exec sleep 600.6' & fact pid $!
             runs $pid bash; seen 1; echo > /tmp/p03; seen 2; over $pid",
        )
        .expect(&[
            of(CREATED),
            record(MAPPED).with(&[
                ("process_memory.file_path", "/usr/bin/sleep"),
                ("process_memory.memory_permissions", "r-xp"),
                ("process.process_id", "$pid"),
            ]),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_executable_path", "/usr/bin/sleep"),
                ("process.process_command_line_arguments", "sleep 600.6"),
            ]),
        ])
        .clean("rm /tmp/p03"),
    scenario("P04", "a process reuses the id of one that has ended")
        .act(
            "act
             sleep 600.31 & fact pid $!; runs $pid sleep; scanned; over $pid
             scanned
             # Another process may come between.
             for i in {1..100}; do
               echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid
               sleep 600.42 & [ $! != $pid ] || break
               over $!
             done
             [ $! = $pid ]; runs $pid sleep; scanned; over $pid",
        )
        .expect(&[
            of(CREATED).times(2),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_command_line_arguments", "sleep 600.31"),
            ]),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_command_line_arguments", "sleep 600.42"),
            ]),
        ]),
    scenario("P05", "a user's processes multiply up to the limit")
        .act(
            "act
             setpriv --reuid 1000 --regid 1000 --clear-groups timeout -s KILL 60 \
               bash -c 'ulimit -u 150; b() { b | b & }; b; sleep 600' > /dev/null 2>&1 & bomb=$!
             seen 1
             sleep 600 & fact pid $!; scanned; over $pid
             await '! pkill -KILL -U 1000'
             wait $bomb || true",
        )
        .expect(&[
            record(CREATED).with(&[("process.process_real_user_id", "1000")]).at_least(50),
            of(CREATED),
            of(TERMINATED),
        ]),
    scenario("P06", "a process that its parent never waits for")
        .act(
            "act
             python3 -c 'import os, pace, sys
pid = os.fork()
if not pid: os._exit(0)
print(\"@fact pid\", pid); sys.stdout.flush(); pace.seen(1); os.wait()'",
        )
        .expect(&[
            record("process_zombie").with(&[
                ("process.process_id", "$pid"),
                ("process.process_state", "Z (zombie)"),
            ]),
            of(TERMINATED),
        ]),
    scenario("P07", "a hundred processes that end at once")
        .act(
            "act
             for i in {1..100}; do /bin/busybox true; done
             sleep 600 & fact pid $!; scanned; over $pid
             # A slow watcher misses them all.
             until come || ((SECONDS > 60)); do /bin/busybox true; done",
        )
        .expect(&[
            of(CREATED),
            of(TERMINATED),
            record(TERMINATED)
                .with(&[("process.process_command_line_arguments", "/bin/busybox true")])
                .at_least(1),
        ]),
    scenario("P11", "a program takes the name of a kernel thread")
        .act(
            "act
             (exec -a '[kworker/0:1]' sleep 600.6) & fact argument $!
             (printf kworker/0:3 > /proc/$BASHPID/comm; stay) < /dev/tty0 & fact name $!
             runs $argument sleep; await 'grep -q kworker /proc/$name/comm'
             scanned; over $argument $name",
        )
        .expect(&[
            ended(&[
                ("process.process_id", "$argument"),
                ("process.process_executable_path", "/usr/bin/sleep"),
                ("process.process_command_line_arguments", "[kworker/0:1] 600.6"),
            ]),
            ended(&[
                ("process.process_id", "$name"),
                ("process.process_name", "kworker/0:3"),
                ("process.process_executable_path", "/usr/bin/bash"),
            ]),
        ]),
    scenario("P12", "twin: threads that the kernel starts in a process")
        .act(
            "act
             python3 -c 'import ctypes, os, struct, time
# io_uring_setup, with IORING_SETUP_SQPOLL: the kernel starts a thread of its own in this process.
parameters = ctypes.create_string_buffer(struct.pack(\"4I\", 0, 0, 2, 1000) + bytes(104))
ring = ctypes.CDLL(None).syscall(425, 8, parameters)
time.sleep(600)
os._exit(ring < 0)' & fact pid $!
             await 'grep -l iou-sqp- /proc/$pid/task/*/comm'
             fact thread $(ls /proc/$pid/task | sort -n | tail -n 1)
             seen 1; over $pid",
        )
        .expect(&[
            record("thread_created").with(&[
                ("process.process_id", "$pid"),
                ("thread.thread_id", "$thread"),
            ]),
            of(TERMINATED),
        ]),
    scenario("P13", "a process in namespaces of its own")
        .act(
            "act
             unshare -m -u -n -p -f sleep 600 & fact parent $!
             await 'pid=$(pgrep -P $parent)'; fact pid $pid; runs $pid sleep
             fact mnt $(readlink /proc/$pid/ns/mnt)
             fact net $(readlink /proc/$pid/ns/net)
             fact pidns $(readlink /proc/$pid/ns/pid)
             scanned; over $pid; wait $parent || true",
        )
        .expect(&[ended(&[
            ("process.process_id", "$pid"),
            ("process.process_command_line_arguments", "sleep 600"),
            ("process.process_mount_points_namespace", "$mnt"),
            ("process.process_network_namespace", "$net"),
            ("process.process_pid_namespace", "$pidns"),
        ])]),
    scenario("P15", "a process of a container in the machine's own namespaces")
        .prepare(
            "id=$(echo p15 | sha256sum | cut -c1-64); fact id $id
             mkdir -p /sys/fs/cgroup/system.slice/docker-$id.scope
             fact mnt $(readlink /proc/1/ns/mnt)",
        )
        .act(
            "act
             (echo 0 > /sys/fs/cgroup/system.slice/docker-$id.scope/cgroup.procs
              exec unshare -m -p -f -u sh -c 'nsenter -t 1 -m -u sleep 600.8; true') & outer=$!
             await 'pid=$(pgrep -xf \"sleep 600.8\")'; fact pid $pid
             seen 1; scanned; over $pid; wait $outer",
        )
        .expect(&[
            record("container_started").with(&[("container.container_id", "$id")]),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_command_line_arguments", "sleep 600.8"),
                ("process.process_mount_points_namespace", "$mnt"),
                ("process.process_container_id", "$id"),
            ]),
        ])
        .clean("rmdir /sys/fs/cgroup/system.slice/docker-$id.scope"),
    scenario("P17", "a shell that runs as its owner")
        .prepare("cp /bin/bash /tmp/.s; chmod 4755 /tmp/.s")
        .act(
            "act
             setpriv --reuid 1000 --regid 1000 --clear-groups /tmp/.s -p -c 'read -r _ <> /run/pace/never' & fact pid $!
             await '[ /proc/$pid/exe -ef /tmp/.s ]'; scanned; over $pid",
        )
        .expect(&[ended(&[
            ("process.process_id", "$pid"),
            ("process.process_executable_path", "/tmp/.s"),
            ("process.process_real_user_id", "1000"),
            ("process.process_effective_user_id", "0"),
        ])])
        .clean("rm /tmp/.s"),
    scenario("P20", "twin: a process drops its privileges")
        .act(
            "act
             setpriv --reuid 1000 --regid 1000 --clear-groups --bounding-set -all --no-new-privs sleep 600 &
             fact pid $!; runs $pid sleep; scanned; over $pid",
        )
        .expect(&[ended(&[
            ("process.process_id", "$pid"),
            ("process.process_real_user_id", "1000"),
            ("process.process_effective_user_id", "1000"),
            ("process.process_effective_group_id", "1000"),
        ])]),
    scenario("P21", "a process is traced by another than its parent")
        .prepare("sleep 6000 > /dev/null 2>&1 & fact pid $!; runs $pid sleep")
        .act(
            "act
             python3 -c \"import ctypes, os, pace
libc = ctypes.CDLL(None)
assert libc.ptrace(16, $pid, None, None) == 0
os.waitpid($pid, 0x40000000)
assert 't (tracing stop)' in open('/proc/$pid/status').read()
pace.scanned()
libc.ptrace(17, $pid, None, None)\"
             kill $pid",
        )
        .expect(&[ended(&[
            ("process.process_id", "$pid"),
            ("process.process_executable_path", "/usr/bin/sleep"),
            ("process.process_parent_process_id", "1"),
        ])]),
    scenario("P22", "a process's code is written by another, through /proc")
        .prepare("sleep 6000 > /dev/null 2>&1 & fact pid $!; runs $pid sleep")
        .act(
            "act
             python3 -c \"import pace
text = [line for line in open('/proc/$pid/maps') if 'r-xp' in line and 'sleep' in line][0]
start = int(text.split('-')[0], 16)
with open('/proc/$pid/mem', 'r+b', buffering=0) as memory:
    memory.seek(start); code = memory.read(16)
    memory.seek(start); memory.write(code)
    pace.scanned()\" & fact writer $!
             wait $writer; kill $pid",
        )
        .expect(&[
            record("file_descriptor_open").with(&[
                ("file_descriptor.file_descriptor_name", "/proc/$pid/mem"),
                ("process.process_id", "$writer"),
            ]),
            of(TERMINATED),
        ]),
    scenario("P24", "a library is loaded before all others, by the environment")
        .prepare("cp $(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1) /tmp/p24.so")
        .act("act\nLD_PRELOAD=/tmp/p24.so sleep 600 & fact pid $!; seen 1; over $pid")
        .expect(&[
            record(MAPPED).with(&[
                ("process_memory.file_path", "/tmp/p24.so"),
                ("process_memory.memory_permissions", "r-xp"),
                ("process.process_id", "$pid"),
            ]),
            of(TERMINATED),
        ])
        .clean("rm /tmp/p24.so"),
    scenario("P25", "a library is loaded before all others, by the loader's file")
        .prepare("cp $(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1) /tmp/p25.so")
        .act(
            "(exec 7>/etc/ld.so.preload; scanned; echo /tmp/p25.so >&7; act) & fact writer $!
             wait $writer
             sleep 600 & fact pid $!; seen; over $pid",
        )
        .expect(&[
            record(CONTENT_CHANGE).with(&[
                ("file_descriptor.file_descriptor_name", "/etc/ld.so.preload"),
                ("process.process_id", "$writer"),
            ]),
            record(MAPPED).with(&[
                ("process_memory.file_path", "/tmp/p25.so"),
                ("process_memory.memory_permissions", "r-xp"),
                ("process.process_id", "$pid"),
            ]),
        ])
        .clean("rm /etc/ld.so.preload /tmp/p25.so"),
    scenario("P26", "twin: processes that change their names")
        .act(
            "act
             (exec -a -bash bash --norc -c 'read -r _ <> /run/pace/never') & fact login $!
             (exec -a 'postgres: writer' sleep 600) & fact server $!
             /bin/busybox sleep 600 & fact applet $!
             await 'begins $login -bash'; runs $server sleep; runs $applet busybox
             scanned; over $login $server $applet",
        )
        .expect(&[
            ended(&[
                ("process.process_id", "$login"),
                ("process.process_executable_path", "/usr/bin/bash"),
                (
                    "process.process_command_line_arguments",
                    "-bash --norc -c read -r _ <> /run/pace/never",
                ),
            ]),
            ended(&[
                ("process.process_id", "$server"),
                ("process.process_executable_path", "/usr/bin/sleep"),
            ]),
            ended(&[
                ("process.process_id", "$applet"),
                ("process.process_executable_path", "/usr/bin/busybox"),
            ]),
        ]),
    scenario("P27", "a daemon that leaves its parents behind")
        .act(
            "act
             setsid sh -c '(sleep 600.83 &)'
             await 'pid=$(pgrep -xf \"sleep 600.83\")'; fact pid $pid
             scanned; over $pid",
        )
        .expect(&[
            of(CREATED),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_parent_process_id", "1"),
                ("process.process_command_line_arguments", "sleep 600.83"),
            ]),
        ]),
    scenario("P28", "two hundred threads begin and end")
        .act(
            "act
             python3 -c 'import pace, threading
threading.stack_size(65536)
go = threading.Event()
held = open(\"/etc/hostname\")
threads = [threading.Thread(target=go.wait) for _ in range(200)]
for thread in threads: thread.start()
pace.scanned(); go.set()
for thread in threads: thread.join()
pace.scanned()' & fact pid $!
             wait $pid",
        )
        .expect(&[
            of("thread_created").times(200),
            of("thread_terminated").times(200),
            record("file_descriptor_open").with(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_name", "/etc/hostname"),
            ]),
        ]),
    scenario("P29", "twin: a process that is stopped")
        .prepare("sleep 6000 > /dev/null 2>&1 & fact pid $!; runs $pid sleep")
        // After it is killed it is a zombie until the machine reaps it.
        .act(
            "kill -STOP $pid; scanned; scanned; scanned
             lacks process_zombie process.process_id=$pid
             act; kill -KILL $pid",
        )
        .expect(&[of(TERMINATED)]),
    scenario("P30", "a program with a kernel thread's name computes, and holds a connection")
        .stage(Stage::Thresholds)
        .act(
            "act
             python3 -c 'import socket, sys
server = socket.create_server((\"127.0.0.1\", 3333)); print(\"@fact listens 1\", flush=True)
peer, _ = server.accept(); peer.recv(1)' & fact pool $!
             await 'grep -q :0D05.*0A /proc/net/tcp'
             (exec -a kswapd0 python3 -c 'import socket, time
pool = socket.create_connection((\"127.0.0.1\", 3333))
while True: pass') & fact pid $!
             seen 2; over $pid; wait $pool",
        )
        .expect(&[
            record("tcp_long_lasting_connection").with(&[
                ("network_connection.destination_port", "3333"),
                ("process.process_id", "$pid"),
                ("process.process_executable_path", "/usr/bin/python3.11"),
            ]),
            record("tcp_long_lasting_connection").with(&[
                ("network_connection.source_port", "3333"),
                ("process.process_id", "$pool"),
            ]),
            of(TERMINATED),
        ]),
    scenario("P31", "a process is killed for the memory that it takes")
        .prepare(
            "echo +memory > /sys/fs/cgroup/cgroup.subtree_control
             mkdir -p /sys/fs/cgroup/p31; echo 16M > /sys/fs/cgroup/p31/memory.max",
        )
        .act(
            "act
             (echo $BASHPID > /sys/fs/cgroup/p31/cgroup.procs; scanned; exec python3 -c 'x = b\"x\" * (64 << 20)') 2>&1 & fact pid $!
             if wait $pid; then false; fi
             grep -q 'oom_kill 1' /sys/fs/cgroup/p31/memory.events",
        )
        .expect(&[of(TERMINATED), of(CREATED)])
        .clean("rmdir /sys/fs/cgroup/p31"),
    scenario("P32", "twin: the machine is paused for a second, and resumed")
        .prepare("sleep 6000 > /dev/null 2>&1 & fact pid $!; runs $pid sleep")
        .host(&["pause 1000"])
        .act("act\nkill $pid")
        .expect(&[of(TERMINATED), of("process_hidden").times(0)]),
];
