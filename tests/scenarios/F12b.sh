# F12b: a file is overwritten in place, its size as before
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f12b
#   file_descriptor.file_descriptor_inode_size_bytes: 7
#   file_descriptor.file_descriptor_inode_hash_sha256: $sha256
#   process.process_id: $pid
# allow: file_content_change
#   file.file_path: /etc/f12b
#   detection.reason: ~is new since
# allow: file_content_change
#   file.file_path: /etc/f12b
#   detection.reason: ~names another file
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f12b
#   detection.reason: ~it had only just been opened
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f12b
#   detection.reason: ~when it was first seen open, 0 bytes
#
# On a slow machine a scan shows the file while it is prepared. In an hour of churn, the file of
# one turn replaces that of the one before. Its inode stays in use: a file of the same name with
# the same inode is the same file, so its preparation would be a change.

#: prepare
echo before > /etc/f12b
#: act
(exec 7<>/etc/f12b; scanned; echo behind >&7; scanned; act; exec 7>&-; scanned) & fact pid $!
wait $pid
fact sha256 "$(sha256sum < /etc/f12b | cut -d' ' -f1)"
#: clean
mv /etc/f12b "$(mktemp -u /root/f12b.XXXXXX)"
