# F11c: a path of the system becomes a link to another file (ln -f), and a symbolic link
# stage: shipped
# expect: file_content_change
#   file.file_path: /usr/bin/tsort
#   file.file_inode_number: $inode
#   file.file_previous_inode_number: $before
# expect: file_content_change
#   file.file_path: /usr/bin/comm
#   file.file_type: SYMLINK
#   file.file_inode_size_bytes: 8
# allow: file_content_change
#   file.file_path: ~/usr/bin/

#: prepare
ln /usr/bin/tsort /f11c.old; ln /usr/bin/comm /f11c.comm; cp -p /usr/bin/true /f11c.new
fact before "$(stat -c %i /usr/bin/tsort)"; fact inode "$(stat -c %i /f11c.new)"
sleep 2
#: act
act
ln -f /f11c.new /usr/bin/tsort
ln -sf /tmp/evl /usr/bin/comm
sleep 4
#: clean
mv -f /f11c.old /usr/bin/tsort; mv -f /f11c.comm /usr/bin/comm; rm /f11c.new
