# image                          puts the image's layers together
# container NAME PREFIX ARGUMENTS   makes $bundle and $id: a container over an overlay of those
#                                   layers, with its arguments as JSON
# run_crun, run_runc             run it
# meets [RECORDS [CONTAINERS]]   waits until so many containers run and so many of the expected
#                                records have come, then ends them
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
  mount -t overlay overlay -o \
    lowerdir=/run/shop/own:/run/shop/base,upperdir=$bundle/upper,workdir=$bundle/work $bundle/rootfs
  cat > $bundle/config.json <<JSON
{"ociVersion":"1.0.0","process":{"terminal":false,"user":{"uid":0,"gid":0},
"args":[$3],"env":["PATH=/bin"],"cwd":"/"},
"root":{"path":"rootfs"},"hostname":"$1",
"mounts":[{"destination":"/proc","type":"proc","source":"proc"},
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
