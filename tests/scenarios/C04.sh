# C04: twin: ten containers that share their image's layers
# stage: shipped
# expect: container_started x10
# expect: container_terminated x10
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: ~/run/

#: prepare
. lib/containers.sh
for i in 0 1 2 3 4 5 6 7 8 9; do container c04-$i a1 '"/app/serve","600"'; done
#: act
. lib/containers.sh
act
for i in 0 1 2 3 4 5 6 7 8 9; do
  bundle=/run/bundles/c04-$i; id=a1$(echo c04-$i | sha256sum | cut -c1-62); run_crun &
done
meets 1 10
#: clean
for bundle in /run/bundles/*; do umount $bundle/rootfs; done; rm -r /run/bundles
