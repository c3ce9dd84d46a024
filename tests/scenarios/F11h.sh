# F11h: programs of the system are written by descriptors that hardly any scan sees
# stage: shipped
# expect: file_content_change at least 1 distinct file.file_path
#   file.file_path: ~/usr/bin/
#   detection.reason: ~bytes, modified at
# allow: file_content_change
#   file.file_path: ~/usr/bin/
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: ~/usr/bin/

#: prepare
mkdir /f11h; for name in comm csplit expand fmt nl; do cp -p /usr/bin/$name /f11h/; done
sleep 4
#: act
act
for name in comm csplit expand fmt nl; do printf x >> /usr/bin/$name; done
sleep 4
#: clean
for name in comm csplit expand fmt nl; do mv -f /f11h/$name /usr/bin/$name; done
rmdir /f11h
