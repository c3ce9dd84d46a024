# F11f: twin: a file that was written by a descriptor that scans see, and is renamed, is one record
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f11f
#   file_descriptor.file_descriptor_previous_name: /etc/f11f.new
#   process.process_id: $pid
# expect: file_content_change x0
#   file.file_inode_size_bytes: 6
# allow: file_content_change
#   file.file_path: /etc/f11f
#   detection.reason: ~is new since
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f11f
#   detection.reason: ~it had only just been opened

#: prepare
echo before > /etc/f11f
sleep 4
#: act
(exec 7>/etc/f11f.new; scanned; echo after >&7; scanned; act; exec 7>&-) & fact pid $!
wait $pid
mv -f /etc/f11f.new /etc/f11f
sleep 4
#: clean
rm /etc/f11f
