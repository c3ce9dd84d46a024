# P14: a container of crun, its image known
# stage: shipped
# expect: container_started
#   container.container_id: $id
#   container.container_runtime: docker
#   container.container_cgroup_path: /docker/$id
# expect: container_terminated
#   container.container_id: $id
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: ~/run/

#: prepare
. lib/containers.sh
container p14 a1 '"/app/serve","600"'
#: act
. lib/containers.sh
bundle=/run/bundles/p14
act
run_crun & meets
#: clean
for bundle in /run/bundles/*; do umount $bundle/rootfs; done; rm -r /run/bundles
