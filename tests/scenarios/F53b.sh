# F53b: a program with capabilities in /tmp is begun as a user by root: only its stack tells
# stage: equipped
# expect: file_permissions_changed
#   record.message_type: ALERT
#   file.file_path: /tmp/.f53b
#   file.file_capabilities: ["cap_dac_override","cap_sys_admin"]

#: prepare
cp /bin/sleep /tmp/.f53b
python3 -c 'import os, struct
capabilities = struct.pack("<5I", 0x02000001, 1 << 1 | 1 << 21, 0, 0, 0)
os.setxattr("/tmp/.f53b", "security.capability", capabilities)'
#: act
act
setpriv --reuid=1000 --regid=1000 --clear-groups /tmp/.f53b 4
#: clean
rm /tmp/.f53b
