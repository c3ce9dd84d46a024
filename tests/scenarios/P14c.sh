# P14c: a container without a runtime: control group, namespaces, chroot
# stage: shipped
# expect: container_started
#   container.container_id: $id
# expect: container_terminated
#   container.container_id: $id

#: prepare
. lib/containers.sh
image
id=$(echo p14c | sha256sum | cut -c1-64); fact id $id
mkdir -p /sys/fs/cgroup/system.slice/docker-$id.scope
#: act
act
(echo 0 > /sys/fs/cgroup/system.slice/docker-$id.scope/cgroup.procs
 exec unshare --mount --pid --uts --fork chroot /run/shop/base /bin/sleep 600) & pid=$!
seen 1; scanned; pkill -KILL -xf '/bin/sleep 600'; wait $pid || true
#: clean
rmdir /sys/fs/cgroup/system.slice/docker-$id.scope
