# F41: a file is renamed some seconds after its record: a second one has the last path
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f41.new
# expect: file_content_change
#   file.file_path: /etc/f41

#: prepare
echo before > /etc/f41
sleep 4
#: act
act
(exec 7> /etc/f41.new; scanned; echo later >&7; scanned; exec 7>&-) & wait $!
sleep 3
mv -f /etc/f41.new /etc/f41
sleep 6
#: clean
rm /etc/f41
