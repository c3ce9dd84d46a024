# F17b: a temporary file that never had a name
# stage: shipped
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_index: 3
#   file_descriptor.file_descriptor_name: ~/tmp/#
#   file_descriptor.file_descriptor_inode_deleted: true

#: act
python3 -c '
import os, time
print("@act", flush=True)
fd = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)
time.sleep(600)' & fact pid $!
seen; over $pid
