# F17: a temporary file whose name was removed
# stage: shipped
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_index: 7
#   file_descriptor.file_descriptor_name: ~/tmp/f17

#: act
act
(exec 7<>/tmp/f17; rm /tmp/f17; stay) & fact pid $!
seen; over $pid
