# P13: a process in namespaces of its own
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
#   process.process_command_line_arguments: sleep 600
#   process.process_mount_points_namespace: $mnt
#   process.process_network_namespace: $net
#   process.process_pid_namespace: $pidns

#: act
act
unshare -m -u -n -p -f sleep 600 & fact parent $!
await 'pid=$(pgrep -P $parent)'; fact pid $pid; runs $pid sleep
fact mnt "$(readlink /proc/$pid/ns/mnt)"
fact net "$(readlink /proc/$pid/ns/net)"
fact pidns "$(readlink /proc/$pid/ns/pid)"
scanned; over $pid; wait $parent || true
