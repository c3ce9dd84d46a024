# C03: twin: a container whose image is not known
# stage: shipped
# expect: container_started
#   container.container_id: $id
# expect: container_terminated
#   container.container_id: $id
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: ~/run/

#: prepare
. lib/containers.sh
container c03 b2 '"/app/serve","600"'
#: act
. lib/containers.sh
bundle=/run/bundles/c03
act
run_crun & meets
#: clean
for bundle in /run/bundles/*; do umount $bundle/rootfs; done; rm -r /run/bundles
