# F50b: a set-uid program is written and gets its mode at once: one alert, that of its content
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /usr/local/bin/f50b
#   file_descriptor.file_descriptor_inode_permissions: 4755
#   detection.reason: ~it is set-uid
# expect: file_permissions_changed x0
# expect: file_content_change x0

#: prepare
mkdir -p /usr/local/bin; sleep 4
#: act
(exec 7> /usr/local/bin/f50b; scanned; cat /bin/bash >&7; scanned; act; exec 7>&-
chmod 4755 /usr/local/bin/f50b) & wait $!
sleep 4
#: clean
rm /usr/local/bin/f50b
sleep 2
