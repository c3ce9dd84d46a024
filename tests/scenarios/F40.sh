# F40: `sed -i` on a setting: the record names what has changed
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f40
#   file_descriptor.file_descriptor_previous_name: ~/etc/sed
#   process.process_name: sed
# expect: file_content_change x0
#   file.file_path: /etc/f40
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f40
#   detection.reason: ~it had only just been opened
#
# The file is long, so that a scan sees the descriptor of sed's own file.

#: prepare
for number in {1..200000}; do echo "#Banner none $number"; done > /etc/f40
sleep 4
#: act
act
sed -i 's/#Banner none/#Banner  none/' /etc/f40
sleep 4
#: clean
rm /etc/f40
