# containers: containers start and stop, and commands are run in them

#: prepare
mkdir -p /srv/rootfs/bin /srv/rootfs/proc /srv/rootfs/dev /srv/rootfs/tmp
cp /bin/busybox /srv/rootfs/bin/
for applet in sh sleep cat id; do ln -sf busybox /srv/rootfs/bin/$applet; done
#: turn
for i in 1 2 3; do
  id=$(echo $RANDOM$i | sha256sum | cut -c1-64); bundle=/run/twin-container-$i; mkdir -p $bundle
  cat > $bundle/config.json <<JSON
{"ociVersion":"1.0.0","process":{"terminal":false,"user":{"uid":0,"gid":0},
"args":["/bin/sh","-c","sleep 60"],"env":["PATH=/bin"],"cwd":"/"},
"root":{"path":"/srv/rootfs"},"hostname":"twin",
"mounts":[{"destination":"/proc","type":"proc","source":"proc"},
{"destination":"/dev","type":"tmpfs","source":"tmpfs"}],"linux":{"cgroupsPath":"/docker/$id",
"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"uts"},{"type":"ipc"},{"type":"network"}]}}
JSON
  crun --cgroup-manager=cgroupfs run --no-pivot --detach --bundle $bundle $id \
    < /dev/null > /tmp/container.out 2>&1
  crun --cgroup-manager=cgroupfs exec $id sh -c 'id; sleep 0.5' < /dev/null | grep -q uid=0
  echo 'id' | crun --cgroup-manager=cgroupfs exec $id sh | grep -q uid=0
  crun --cgroup-manager=cgroupfs delete --force $id
done
