# F11d: a file is mounted over a program of the system
# stage: shipped
# expect: file_content_change
#   file.file_path: /usr/bin/join
#   file.file_inode_number: $inode
#   file.file_previous_inode_number: $before
# allow: file_content_change
#   file.file_path: /usr/bin/join

#: prepare
cp /usr/bin/true /tmp/f11d
fact before "$(stat -c %i /usr/bin/join)"; fact inode "$(stat -c %i /tmp/f11d)"
sleep 2
#: act
act
mount --bind /tmp/f11d /usr/bin/join
sleep 4
#: clean
umount /usr/bin/join; rm /tmp/f11d
