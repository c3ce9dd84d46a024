# F52: a set-uid copy of bash in a folder that no sweep reads is run by a user
# stage: behaviour
# expect: file_permissions_changed
#   record.message_type: ALERT
#   record.severity: MEDIUM
#   file.file_path: /tmp/.f52
#   file.file_inode_permissions: 4755
#   file.file_inode_uid: 0

#: prepare
cp /bin/bash /tmp/.f52; chmod 4755 /tmp/.f52
#: act
act
setpriv --reuid=1000 --regid=1000 --clear-groups /tmp/.f52 -p -c 'sleep 4; :' & wait $!
#: clean
rm /tmp/.f52
