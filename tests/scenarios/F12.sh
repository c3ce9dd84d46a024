# F12: a file is written and closed
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f12
#   file_descriptor.file_descriptor_index: 7
#   file_descriptor.file_descriptor_inode_number: $inode
#   file_descriptor.file_descriptor_inode_size_bytes: 13
#   file_descriptor.file_descriptor_inode_hash_sha256: $sha256
#   file_descriptor.file_descriptor_inode_hash_sha1: $sha1
#   file_descriptor.file_descriptor_inode_hash_md5: $md5
#   process.process_id: $pid
# expect: file_descriptor_open
#   file_descriptor.file_descriptor_name: /etc/f12
#   file_descriptor.file_descriptor_index: 7
#   process.process_id: $pid
# allow: file_content_change
#   file.file_path: /etc/f12
#   detection.reason: ~is new since
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f12
#   detection.reason: ~it had only just been opened

#: prepare
echo before > /etc/f12
#: act
(exec 7>>/etc/f12; scanned; echo after >&7; scanned; act; exec 7>&-; scanned) & fact pid $!
wait $pid
fact sha256 "$(sha256sum < /etc/f12 | cut -d' ' -f1)"
fact md5 "$(md5sum < /etc/f12 | cut -d' ' -f1)"
fact sha1 "$(sha1sum < /etc/f12 | cut -d' ' -f1)"; fact inode "$(stat -c %i /etc/f12)"
#: clean
rm /etc/f12
