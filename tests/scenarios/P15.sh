# P15: a process of a container in the machine's own namespaces
# stage: behaviour
# expect: container_started
#   container.container_id: $id
# expect: process_terminated
#   process.process_id: $pid
#   process.process_command_line_arguments: sleep 600.8
#   process.process_mount_points_namespace: $mnt
#   process.process_container_id: $id

#: prepare
id=$(echo p15 | sha256sum | cut -c1-64); fact id $id
mkdir -p /sys/fs/cgroup/system.slice/docker-$id.scope
fact mnt "$(readlink /proc/1/ns/mnt)"
#: act
act
(echo 0 > /sys/fs/cgroup/system.slice/docker-$id.scope/cgroup.procs
 exec unshare -m -p -f -u sh -c 'nsenter -t 1 -m -u sleep 600.8; true') & outer=$!
await 'pid=$(pgrep -xf "sleep 600.8")'; fact pid $pid
seen 1; scanned; over $pid; wait $outer
#: clean
rmdir /sys/fs/cgroup/system.slice/docker-$id.scope
