# F11: a program of the system gets another content without a descriptor: truncate(2)
# stage: shipped
# expect: file_content_change
#   file.file_path: /usr/bin/tail
#   file.file_type: REGULAR
#   file.file_inode_number: $inode
#   file.file_inode_size_bytes: $size
#   file.file_inode_hash_sha256: $sha256
#   file.file_previous_inode_number: $inode
#   file.file_previous_inode_size_bytes: $before
# allow: file_content_change
#   file.file_path: /usr/bin/tail
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /usr/bin/tail

#: prepare
cp -p /usr/bin/tail /tmp/f11
fact before "$(stat -c %s /usr/bin/tail)"; fact inode "$(stat -c %i /usr/bin/tail)"
sleep 2
#: act
python3 -c '
import os
size = os.stat("/usr/bin/tail").st_size
print("@act", flush=True)
os.truncate("/usr/bin/tail", size + 1)'
fact size "$(stat -c %s /usr/bin/tail)"
fact sha256 "$(sha256sum < /usr/bin/tail | cut -d' ' -f1)"
sleep 4
#: clean
cat /tmp/f11 > /usr/bin/tail; touch -r /tmp/f11 /usr/bin/tail; rm /tmp/f11
