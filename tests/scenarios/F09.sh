# F09: a library is upgraded to one that was not shipped
# stage: shipped
# expect: foreign_library_loaded_file_size_mismatch
#   elf_file.elf_file_path: $library
#   elf_file.elf_file_hash_sha256: $sha256
#   process.process_id: $new
# expect: foreign_library_loaded
#   elf_file.elf_file_path: $library
#   elf_file.elf_file_hash_sha256: $sha256
#   process.process_id: $new
# allow: file_descriptor_file_content_change

#: prepare
python3 -c 'import time; time.sleep(6000)' > /dev/null 2>&1 & fact old $!; kept $old
library=$(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1); fact library $library
await 'grep -q $library /proc/$old/maps'
#: act
dpkg -i /opt/zlib1g-newer.deb
grep -q 'libz.*deleted' /proc/$old/maps
fact sha256 "$(sha256sum < $library | cut -d' ' -f1)"
act
python3 -c 'import time; time.sleep(600)' & fact new $!
seen; over $new
#: clean
dpkg -i /opt/zlib1g-older.deb 2>&1
