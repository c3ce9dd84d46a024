# F51: folders of the system become writable for all
# stage: shipped
# expect: file_permissions_changed
#   record.message_type: ALERT
#   record.severity: MEDIUM
#   file.file_path: /etc
#   file.file_type: DIRECTORY
#   file.file_inode_permissions: $mode
#   file.file_previous_inode_permissions: $before
# expect: file_permissions_changed
#   record.message_type: ALERT
#   file.file_path: /etc/f51
#   file.file_inode_permissions: 0777

#: prepare
mkdir -m 755 /etc/f51; ls /etc/f51
fact before "0$(stat -c %a /etc)"
sleep 4
#: act
act
chmod o+w /etc
chmod 777 /etc/f51
fact mode "0$(stat -c %a /etc)"
sleep 4
#: clean
chmod o-w /etc; rmdir /etc/f51
sleep 2
