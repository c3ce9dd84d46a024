# F01t: twin: a program in a memfd, as data only
# stage: shipped
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_file_type: MEMFD
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_file_type: MEMFD

#: act
act
python3 -c '
import os, time
fd = os.memfd_create("data")
os.sendfile(fd, os.open("/opt/stranger", os.O_RDONLY), 0, 1 << 30)
time.sleep(600)' &
fact pid $!
seen; scanned; over $pid
