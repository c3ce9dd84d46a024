# F08: a foreign library, by dlopen
# stage: shipped
# expect: foreign_library_loaded
#   elf_file.elf_file_path: $path
#   elf_file.elf_file_hash_sha256: $sha256
#   elf_file.elf_file_type: SHARED_OBJECT
#   process.process_id: $pid
# expect: new_file_mapped
#   process.process_id: $pid
#   process_memory.file_path: /tmp/f08.so
#   process_memory.memory_permissions: r-xp

#: prepare
cp /opt/stranger.so /tmp/f08.so; fact path /tmp/f08.so
fact sha256 "$(sha256sum < /tmp/f08.so | cut -d' ' -f1)"
#: act
python3 -c '
import ctypes, time
print("@act", flush=True)
ctypes.CDLL("/tmp/f08.so")
time.sleep(600)' & fact pid $!
seen; over $pid
#: clean
rm /tmp/f08.so
