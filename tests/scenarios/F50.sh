# F50: a copy of bash becomes set-uid, a program that no sweep knows set-gid
# stage: shipped
# expect: file_permissions_changed
#   record.message_type: ALERT
#   record.severity: MEDIUM
#   file.file_path: /usr/local/bin/f50
#   file.file_inode_number: $inode
#   file.file_inode_permissions: 4755
#   file.file_inode_uid: 0
#   file.file_previous_inode_permissions: 0755
# expect: file_permissions_changed
#   record.message_type: ALERT
#   file.file_path: /usr/bin/shuf
#   file.file_inode_permissions: 2755
# expect: file_content_change x0
# expect: file_descriptor_file_content_change x0

#: prepare
mkdir -p /usr/local/bin; cp /bin/bash /usr/local/bin/f50; chmod 755 /usr/local/bin/f50
fact inode "$(stat -c %i /usr/local/bin/f50)"
sleep 8
#: act
act
chmod u+s /usr/local/bin/f50
chmod g+s /usr/bin/shuf
sleep 4
#: clean
rm /usr/local/bin/f50; chmod g-s /usr/bin/shuf
sleep 2
