# F08d: a shipped library by a copy of it
# stage: shipped
# expect: foreign_library_loaded
#   elf_file.elf_file_path: /tmp/f08d/libyajl.so.2
#   process.process_id: $pid

#: prepare
mkdir -p /tmp/f08d; cp /usr/lib/x86_64-linux-gnu/libyajl.so.2 /tmp/f08d/
printf x >> /tmp/f08d/libyajl.so.2
#: act
LD_LIBRARY_PATH=/tmp/f08d python3 -c '
import ctypes, time
print("@act", flush=True)
ctypes.CDLL("libyajl.so.2")
time.sleep(600)' & fact pid $!
seen; over $pid
#: clean
rm -r /tmp/f08d
