# F13b: a writer that is killed
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f13b
#   file_descriptor.file_descriptor_inode_size_bytes: 12
#   process.process_id: $pid
# allow: file_content_change
#   file.file_path: /etc/f13b
#   detection.reason: ~is new since
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f13b
#   detection.reason: ~it had only just been opened

#: prepare
echo before > /etc/f13b
#: act
(exec 7>>/etc/f13b; scanned; echo line >&7; exec sleep 600) & fact pid $!
await '[ $(stat -c %s /etc/f13b) = 12 ]'; scanned; act; over $pid
#: clean
rm /etc/f13b
