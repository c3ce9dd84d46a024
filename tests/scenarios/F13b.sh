# F13b: a writer that is killed
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /tmp/f13b
#   file_descriptor.file_descriptor_inode_size_bytes: 12
#   process.process_id: $pid

#: prepare
echo before > /tmp/f13b
#: act
(exec 7>>/tmp/f13b; scanned; echo line >&7; exec sleep 600) & fact pid $!
await '[ $(stat -c %s /tmp/f13b) = 12 ]'; scanned; act; over $pid
#: clean
rm /tmp/f13b
