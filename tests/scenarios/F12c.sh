# F12c: twin: a file that does not matter is written and closed
# stage: shipped
# expect: file_descriptor_close
#   file_descriptor.file_descriptor_name: /tmp/f12c
#   file_descriptor.file_descriptor_index: 7
#   process.process_id: $pid
# expect: file_descriptor_file_content_change x0

#: prepare
echo before > /tmp/f12c
#: act
(exec 7>>/tmp/f12c; scanned; echo after >&7; scanned; act; exec 7>&-; scanned) & fact pid $!
wait $pid; scanned
#: clean
rm /tmp/f12c
