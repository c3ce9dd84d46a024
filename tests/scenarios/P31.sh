# P31: a process is killed for the memory that it takes
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
# expect: process_created
#   process.process_id: $pid

#: prepare
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
mkdir -p /sys/fs/cgroup/p31; echo 16M > /sys/fs/cgroup/p31/memory.max
#: act
act
(echo $BASHPID > /sys/fs/cgroup/p31/cgroup.procs; scanned
  exec python3 -c 'x = b"x" * (64 << 20)') 2>&1 & fact pid $!
if wait $pid; then false; fi
grep -q 'oom_kill 1' /sys/fs/cgroup/p31/memory.events
#: clean
rmdir /sys/fs/cgroup/p31
