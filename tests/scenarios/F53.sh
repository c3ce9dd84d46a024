# F53: root gives a copy of an interpreter cap_setuid, and a user's shell runs it
# stage: equipped
# expect: file_permissions_changed
#   record.message_type: ALERT
#   record.severity: MEDIUM
#   file.file_path: /usr/local/bin/f53
#   file.file_inode_permissions: 0755
#   file.file_capabilities: ["cap_setuid"]

#: prepare
mkdir -p /usr/local/bin
cp /usr/bin/python3.11 /usr/local/bin/f53
sleep 4
#: act
act
# As setcap cap_setuid+ep: version 2 with the effective bit, then what is permitted and inheritable
# (include/uapi/linux/capability.h).
python3 -c 'import os, struct
capabilities = struct.pack("<5I", 0x02000001, 1 << 7, 0, 0, 0)
os.setxattr("/usr/local/bin/f53", "security.capability", capabilities)'
setpriv --reuid=1000 --regid=1000 --clear-groups \
  bash -c '/usr/local/bin/f53 -c "import time; time.sleep(4)"; true'
#: clean
rm /usr/local/bin/f53
