# F08t: twin: libraries as data, and other files that are mapped
# stage: shipped
# expect: new_file_mapped
#   process.process_id: $pid
#   process_memory.file_path: /tmp/f08t.so
#   process_memory.memory_permissions: r--s
# expect: new_file_mapped
#   process.process_id: $pid
#   process_memory.file_path: ~libyajl.so.2
#   process_memory.memory_permissions: r-xp

#: prepare
cp /opt/stranger.so /tmp/f08t.so
#: act
act
python3 -c '
import ctypes, mmap, time
ctypes.CDLL("libyajl.so.2")
files = [open("/tmp/f08t.so", "rb"), open("/etc/passwd", "rb")]
maps = [mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) for file in files]
time.sleep(600)' & fact pid $!
seen; scanned; over $pid
#: clean
rm /tmp/f08t.so
