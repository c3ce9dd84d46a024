# P14t: twin: control groups of services and users
# stage: shipped
# expect: process_terminated
#   process.process_id: $pid
#   process.process_command_line_arguments: sleep 600
# expect: container_started x0

#: prepare
mkdir -p /sys/fs/cgroup/system.slice/ssh.service /sys/fs/cgroup/user.slice/user-1001.slice
#: act
act
for group in system.slice/ssh.service user.slice/user-1001.slice; do
  (echo 0 > /sys/fs/cgroup/$group/cgroup.procs; exec sleep 600) & fact pid $!; runs $pid sleep
  all="${all:-} $pid"
done
scanned; over $all
#: clean
rmdir /sys/fs/cgroup/system.slice/ssh.service /sys/fs/cgroup/user.slice/user-1001.slice
