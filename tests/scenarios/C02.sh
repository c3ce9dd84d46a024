# C02: a container's program with other arguments than the image's
# stage: shipped
# expect: binary_executed_not_as_intended
#   elf_file.elf_file_path: /app/serve
#   process.process_command_line_arguments: /app/serve 601
#   process.process_container_id: $id
# expect: container_started
#   container.container_id: $id
# expect: container_terminated
#   container.container_id: $id
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: ~/run/

#: prepare
. lib/containers.sh
container c02 a1 '"/app/serve","601"'
#: act
. lib/containers.sh
bundle=/run/bundles/c02
act
run_crun & meets 2
#: clean
for bundle in /run/bundles/*; do umount $bundle/rootfs; done; rm -r /run/bundles
