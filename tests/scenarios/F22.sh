# F22: a bind mount, and another root
# stage: shipped
# expect: file_descriptor_open
#   process.process_id: $bind
#   file_descriptor.file_descriptor_index: 7
#   file_descriptor.file_descriptor_name: /mnt/f22/file
# expect: file_descriptor_open
#   process.process_id: $inner
#   file_descriptor.file_descriptor_index: 7
#   file_descriptor.file_descriptor_name: /mnt/inner

#: prepare
mkdir -p /tmp/f22/sub /mnt/f22; echo x > /tmp/f22/sub/file; mount --bind /tmp/f22/sub /mnt/f22
#: act
act
(exec 7</mnt/f22/file; stay) & fact bind $!
unshare --mount bash -c 'mount -t tmpfs tmpfs /mnt; echo y > /mnt/inner; exec 7</mnt/inner
               read -r _ <> /run/pace/never' & fact inner $!
seen; over $bind $inner
#: clean
umount /mnt/f22; rm -r /tmp/f22
