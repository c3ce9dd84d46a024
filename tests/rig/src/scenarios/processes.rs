//! Processes: what they are called, what they become, how they come and go.
//!
//! Most of what is done here is told by events, and by no alert: what the records say of it is what counts.

use super::{CONTENT_CHANGE, Expected, Scenario, Stage, record};

const CREATED: &str = "process_created";
const TERMINATED: &str = "process_terminated";
const MAPPED: &str = "new_file_mapped";

/// A record about the process `$pid`.
const fn of(activity: &'static str) -> Expected {
    record(activity).with(&[("process.process_id", "$pid")])
}

/// The end of a process, by what it was.
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
             (cd /tmp; exec sleep 0.61) & fact pid $!; fact parent $$
             wait $pid",
        )
        .expect(&[
            of(CREATED),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_parent_process_id", "$parent"),
                ("process.process_name", "sleep"),
                ("process.process_executable_path", "/usr/bin/sleep"),
                ("process.process_command_line_arguments", "sleep 0.61"),
                ("process.process_current_working_directory", "/tmp"),
                ("process.process_real_user_id", "0"),
                ("process.process_effective_user_id", "0"),
            ]),
        ]),
    scenario("P02", "a process forks and runs no other program")
        .act(
            "act
             python3 -c 'import os, sys, time
pid = os.fork()
if pid: print(\"@fact pid\", pid); sys.stdout.flush(); os.wait()
else: time.sleep(0.5)'",
        )
        .expect(&[
            of(CREATED),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_executable_path", "/usr/bin/python3.11"),
            ]),
        ]),
    scenario("P03", "a process becomes another program")
        .act(
            "act
             bash -c 'sleep 0.4; exec sleep 0.6' & fact pid $!
             wait $pid",
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
                ("process.process_command_line_arguments", "sleep 0.6"),
            ]),
        ]),
    scenario("P04", "a process has the number of one that has ended")
        .act(
            "act
             sleep 0.31 & fact pid $!; wait $pid
             echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid
             sleep 0.42 & [ $! = $pid ] && wait $pid",
        )
        .expect(&[
            of(CREATED).times(2),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_command_line_arguments", "sleep 0.31"),
            ]),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_command_line_arguments", "sleep 0.42"),
            ]),
        ]),
    scenario("P05", "a user's processes multiply until there may be no more")
        .act(
            "act
             setpriv --reuid 1000 --regid 1000 --clear-groups timeout -s KILL 3 \
               bash -c 'ulimit -u 150; b() { b | b & }; b; sleep 2' > /dev/null 2>&1 || true
             sleep 0.61 & fact pid $!
             await '! pkill -KILL -U 1000'
             wait $pid",
        )
        .expect(&[
            of(CREATED),
            of(TERMINATED),
            record(CREATED).with(&[("process.process_real_user_id", "1000")]).at_least(50),
        ]),
    scenario("P06", "a process that nobody waits for")
        .act(
            "act
             python3 -c 'import os, sys, time
pid = os.fork()
if not pid: os._exit(0)
print(\"@fact pid\", pid); sys.stdout.flush(); time.sleep(0.6); os.wait(); time.sleep(0.3)'",
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
             sleep 0.61 & fact pid $!; wait $pid",
        )
        .expect(&[
            of(CREATED),
            of(TERMINATED),
            record(TERMINATED)
                .with(&[("process.process_command_line_arguments", "/bin/busybox true")])
                .at_least(1),
        ]),
    scenario("P11", "a program calls itself as a kernel's thread is called")
        .act(
            "act
             (exec -a '[kworker/0:1]' sleep 0.6) & fact argument $!
             (printf kworker/0:3 > /proc/$BASHPID/comm; read -t 0.6 || true) < /dev/tty0 & fact name $!
             wait $argument $name",
        )
        .expect(&[
            ended(&[
                ("process.process_id", "$argument"),
                ("process.process_executable_path", "/usr/bin/sleep"),
                ("process.process_command_line_arguments", "[kworker/0:1] 0.6"),
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
time.sleep(0.6)
os._exit(ring < 0)' & fact pid $!
             await 'grep -l iou-sqp- /proc/$pid/task/*/comm'
             fact thread $(ls /proc/$pid/task | sort -n | tail -n 1)
             wait $pid",
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
             unshare -m -u -n -p -f sleep 2 & fact parent $!
             await 'pid=$(pgrep -P $parent)'; fact pid $pid
             fact mnt $(readlink /proc/$pid/ns/mnt)
             fact net $(readlink /proc/$pid/ns/net)
             fact pidns $(readlink /proc/$pid/ns/pid)
             wait $parent",
        )
        .expect(&[ended(&[
            ("process.process_id", "$pid"),
            ("process.process_command_line_arguments", "sleep 2"),
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
              exec unshare -m -p -f -u sh -c 'nsenter -t 1 -m -u sleep 0.8; true') & outer=$!
             await 'pid=$(pgrep -x sleep)'; fact pid $pid
             wait $outer",
        )
        .expect(&[
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_command_line_arguments", "sleep 0.8"),
                ("process.process_mount_points_namespace", "$mnt"),
                ("process.process_container_id", "$id"),
            ]),
            record("container_started").with(&[("container.container_id", "$id")]),
        ])
        .clean("rmdir /sys/fs/cgroup/system.slice/docker-$id.scope"),
    scenario("P17", "a shell that runs as its owner")
        .prepare("cp /bin/bash /tmp/.s; chmod 4755 /tmp/.s")
        .act(
            "act
             setpriv --reuid 1000 --regid 1000 --clear-groups /tmp/.s -p -c 'sleep 0.6; true' & fact pid $!
             wait $pid",
        )
        .expect(&[ended(&[
            ("process.process_id", "$pid"),
            ("process.process_executable_path", "/tmp/.s"),
            ("process.process_real_user_id", "1000"),
            ("process.process_effective_user_id", "0"),
        ])])
        .clean("rm /tmp/.s"),
    scenario("P20", "twin: a process gives its privileges up")
        .act(
            "act
             setpriv --reuid 1000 --regid 1000 --clear-groups --bounding-set -all --no-new-privs sleep 0.6 &
             fact pid $!; wait $pid",
        )
        .expect(&[ended(&[
            ("process.process_id", "$pid"),
            ("process.process_real_user_id", "1000"),
            ("process.process_effective_user_id", "1000"),
            ("process.process_effective_group_id", "1000"),
        ])]),
    scenario("P21", "a process is traced by another than its parent")
        .prepare("sleep 60 > /dev/null 2>&1 & fact pid $!; fact parent $$; sleep 0.2")
        .act(
            "act
             python3 -c \"import ctypes, os, time
libc = ctypes.CDLL(None)
assert libc.ptrace(16, $pid, None, None) == 0
os.waitpid($pid, 0x40000000)
assert 't (tracing stop)' in open('/proc/$pid/status').read()
time.sleep(0.4)
libc.ptrace(17, $pid, None, None)\"
             kill $pid",
        )
        .expect(&[ended(&[
            ("process.process_id", "$pid"),
            ("process.process_executable_path", "/usr/bin/sleep"),
            ("process.process_parent_process_id", "1"),
        ])]),
    scenario("P22", "a process's code is written by another, through /proc")
        .prepare("sleep 60 > /dev/null 2>&1 & fact pid $!; sleep 0.2")
        .act(
            "act
             python3 -c \"import time
text = [line for line in open('/proc/$pid/maps') if 'r-xp' in line and 'sleep' in line][0]
start = int(text.split('-')[0], 16)
with open('/proc/$pid/mem', 'r+b', buffering=0) as memory:
    memory.seek(start); code = memory.read(16)
    memory.seek(start); memory.write(code)
    time.sleep(0.4)\" & fact writer $!
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
        .act("act\nLD_PRELOAD=/tmp/p24.so sleep 0.6 & fact pid $!; wait $pid")
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
            "(exec 7>/etc/ld.so.preload; sleep 0.5; echo /tmp/p25.so >&7; act) & fact writer $!
             wait $writer
             sleep 0.6 & fact pid $!; wait $pid",
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
    scenario("P26", "twin: processes that call themselves by other names")
        .act(
            "act
             (exec -a -bash bash --norc -c 'sleep 0.6; true') & fact login $!
             (exec -a 'postgres: writer' sleep 0.6) & fact server $!
             /bin/busybox sleep 0.6 & fact applet $!
             wait $login $server $applet",
        )
        .expect(&[
            ended(&[
                ("process.process_id", "$login"),
                ("process.process_executable_path", "/usr/bin/bash"),
                ("process.process_command_line_arguments", "-bash --norc -c sleep 0.6; true"),
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
             setsid sh -c '(sleep 0.83 &)'
             await 'pid=$(pgrep -x sleep)'; fact pid $pid
             await '[ ! -e /proc/$pid ]'",
        )
        .expect(&[
            of(CREATED),
            ended(&[
                ("process.process_id", "$pid"),
                ("process.process_parent_process_id", "1"),
                ("process.process_command_line_arguments", "sleep 0.83"),
            ]),
        ]),
    scenario("P28", "two hundred threads begin and end")
        .act(
            "act
             python3 -c 'import threading, time
threading.stack_size(65536)
go = threading.Event()
held = open(\"/etc/hostname\")
threads = [threading.Thread(target=go.wait) for _ in range(200)]
for thread in threads: thread.start()
time.sleep(0.5); go.set()
for thread in threads: thread.join()
time.sleep(0.5)' & fact pid $!
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
        .prepare("sleep 60 > /dev/null 2>&1 & fact pid $!; sleep 0.2")
        .act("kill -STOP $pid; sleep 0.5; act; kill -KILL $pid")
        .expect(&[of(TERMINATED), of("process_zombie").times(0)]),
    scenario("P30", "a program that calls itself as a kernel's thread computes, and holds a connection")
        .stage(Stage::Thresholds)
        .act(
            "act
             python3 -c 'import socket, sys
server = socket.create_server((\"127.0.0.1\", 3333)); print(\"@fact listens 1\", flush=True)
peer, _ = server.accept(); peer.recv(1)' & fact pool $!
             await 'grep -q :0D05.*0A /proc/net/tcp'
             (exec -a kswapd0 python3 -c 'import socket, time
pool = socket.create_connection((\"127.0.0.1\", 3333))
end = time.monotonic() + 6
while time.monotonic() < end: pass') & fact pid $!
             wait $pid $pool",
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
             (echo $BASHPID > /sys/fs/cgroup/p31/cgroup.procs; exec python3 -c 'x = b\"x\" * (64 << 20)') 2>&1 & fact pid $!
             if wait $pid; then false; fi
             grep -q 'oom_kill 1' /sys/fs/cgroup/p31/memory.events",
        )
        .expect(&[of(TERMINATED), of(CREATED)])
        .clean("rmdir /sys/fs/cgroup/p31"),
    scenario("P32", "twin: the machine stands still for a second, and goes on")
        .prepare("sleep 60 > /dev/null 2>&1 & fact pid $!; sleep 0.3")
        .host(&["pause 1000"])
        .act("act\nkill $pid")
        .expect(&[of(TERMINATED), of("process_hidden").times(0)]),
];
