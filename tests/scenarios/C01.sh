# C01: a foreign program in a container whose image is known
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /app/other
#   elf_file.elf_file_hash_sha256: $sha256
#   process.process_container_id: $id
# expect: container_started
#   container.container_id: $id
# expect: container_terminated
#   container.container_id: $id
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: ~/run/
# allow: binary_executed_not_as_intended
#   process.process_command_line_arguments: /bin/sh -c /app/other 600; true
#   process.process_container_id: $id

#: prepare
. lib/containers.sh
container c01 a1 '"/app/serve","600"'
cp /opt/stranger $bundle/rootfs/app/other; printf x >> $bundle/rootfs/app/other
sed -i 's#"/app/serve","600"#"/bin/sh","-c","/app/other 600; true"#' $bundle/config.json
fact sha256 "$(sha256sum < $bundle/rootfs/app/other | cut -d' ' -f1)"
#: act
. lib/containers.sh
bundle=/run/bundles/c01
act
run_crun & meets 2
#: clean
for bundle in /run/bundles/*; do umount $bundle/rootfs; done; rm -r /run/bundles
