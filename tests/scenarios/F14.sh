# F14: a descriptor number is reused for another file
# stage: shipped
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_index: 7
#   file_descriptor.file_descriptor_name: /etc/passwd
# expect: file_descriptor_close
#   process.process_id: $pid
#   file_descriptor.file_descriptor_index: 7
#   file_descriptor.file_descriptor_name: /etc/passwd
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_index: 7
#   file_descriptor.file_descriptor_name: /etc/group

#: act
act
(exec 7</etc/passwd; scanned; exec 7<&-; exec 7</etc/group; scanned) & fact pid $!
wait $pid
