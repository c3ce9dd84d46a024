# F11e: a setting is written as editors do: another file, renamed
# stage: shipped
# expect: file_content_change
#   file.file_path: /etc/f11e
#   file.file_inode_size_bytes: 6
#   file.file_previous_inode_size_bytes: 7
# allow: file_content_change
#   file.file_path: /etc/f11e
#   detection.reason: ~is new since
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/f11e
#   detection.reason: ~it had only just been opened

#: prepare
echo before > /etc/f11e
sleep 4
#: act
python3 -c '
import os
print("@act", flush=True)
file = os.open("/etc/f11e.new", os.O_WRONLY | os.O_CREAT, 0o644)
os.write(file, b"after\n"); os.close(file); os.rename("/etc/f11e.new", "/etc/f11e")'
sleep 4
#: clean
rm /etc/f11e
