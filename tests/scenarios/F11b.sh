# F11b: a program of the system is replaced by another file (mv)
# stage: shipped
# expect: file_content_change
#   file.file_path: /usr/bin/shuf
#   file.file_inode_number: $inode
#   file.file_inode_hash_sha256: $sha256
#   file.file_previous_inode_number: $before
#   detection.reason: ~names another file
# allow: file_content_change
#   file.file_path: /usr/bin/shuf

#: prepare
ln /usr/bin/shuf /f11b.old; cp -p /usr/bin/true /f11b
fact before "$(stat -c %i /usr/bin/shuf)"; fact inode "$(stat -c %i /f11b)"
fact sha256 "$(sha256sum < /f11b | cut -d' ' -f1)"
sleep 2
#: act
act
mv -f /f11b /usr/bin/shuf
sleep 4
#: clean
mv -f /f11b.old /usr/bin/shuf
