# F08c: a shipped library with bytes appended
# stage: shipped
# expect: foreign_library_loaded_file_size_mismatch
#   elf_file.elf_file_path: $path
#   elf_file.elf_file_hash_sha256: $sha256
#   elf_file.elf_file_type: SHARED_OBJECT
#   process.process_id: $pid
# expect: foreign_library_loaded
#   elf_file.elf_file_path: $path
#   elf_file.elf_file_hash_sha256: $sha256
#   elf_file.elf_file_type: SHARED_OBJECT
#   process.process_id: $pid
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: $path

#: prepare
library=$(readlink -f /usr/lib/x86_64-linux-gnu/libyajl.so.2)
cp -p $library /tmp/f08c; printf x >> $library; fact path $library
fact sha256 "$(sha256sum < $library | cut -d' ' -f1)"
#: act
python3 -c '
import ctypes, time
print("@act", flush=True)
ctypes.CDLL("libyajl.so.2")
time.sleep(600)' & fact pid $!
seen; over $pid
#: clean
cp -p /tmp/f08c $path; rm /tmp/f08c
