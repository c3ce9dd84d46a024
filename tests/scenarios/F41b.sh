# F41b: a file that was reported replaces one that matters, and its old path gets another file
# stage: shipped
# expect: file_descriptor_file_content_change x2
#   file_descriptor.file_descriptor_name: /etc/f41b.new
# expect: file_content_change
#   file.file_path: /etc/f41b
# allow: file_content_change
#   file.file_path: /etc/f41b.new

#: prepare
echo before > /etc/f41b
sleep 4
#: act
act
(exec 7> /etc/f41b.new; scanned; echo later >&7; scanned; exec 7>&-) & wait $!
sleep 3
mv -f /etc/f41b.new /etc/f41b
(exec 7> /etc/f41b.new; scanned; echo again >&7; scanned; exec 7>&-) & wait $!
sleep 6
#: clean
rm /etc/f41b /etc/f41b.new
