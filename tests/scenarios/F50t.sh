# F50t: twins: sticky folders, folders elsewhere, modes that give no rights, a set-uid file renamed
# stage: shipped
# expect: file_permissions_changed at least 1
#   record.message_type: EVENT
#   record.severity: INFO
#   file.file_path: /usr/bin/tac
#   file.file_inode_permissions: 0700
# allow: file_permissions_changed
#   record.message_type: EVENT
# allow: file_content_change
#   file.file_path: /usr/local/bin/f50t.old

#: prepare
mkdir -p /etc/f50t /srv/f50t /usr/local/bin; ls -l /etc/f50t /usr/bin/tac
printf x > /srv/f50t/data; cp /bin/true /f50t.true
chmod 4755 /f50t.true; mv /f50t.true /usr/local/bin/f50t
sleep 8
#: act
act
chmod 700 /usr/bin/tac
chmod 1777 /etc/f50t
chmod 777 /srv/f50t; chmod 4755 /srv/f50t/data
mv /usr/local/bin/f50t /usr/local/bin/f50t.old; ln /usr/local/bin/f50t.old /usr/local/bin/f50t
sleep 4
#: clean
chmod 755 /usr/bin/tac; rm -r /etc/f50t /srv/f50t /usr/local/bin/f50t*
sleep 2
