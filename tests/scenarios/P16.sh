# P16: a shipped program under another root
# stage: shipped
# expect: binary_executed_not_as_intended
#   elf_file.elf_file_path: /tmp/p16/bin/busybox
#   process.process_id: $pid
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /tmp/p16/bin/busybox

#: prepare
mkdir -p /tmp/p16/bin; cp /bin/busybox /tmp/p16/bin/
#: act
act
chroot /tmp/p16 /bin/busybox sleep 600 & fact pid $!; seen; over $pid
#: clean
rm -r /tmp/p16
