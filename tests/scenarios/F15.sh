# F15: dup2 over an open file
# stage: shipped
# expect: file_descriptor_close
#   process.process_id: $pid
#   file_descriptor.file_descriptor_index: 7
#   file_descriptor.file_descriptor_name: /etc/passwd
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_index: 7
#   file_descriptor.file_descriptor_name: /etc/group

#: act
(exec 7</etc/passwd 8</etc/group; scanned; act; exec 7<&8; scanned) & fact pid $!
wait $pid
