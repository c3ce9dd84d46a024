# F08b: a foreign library, by LD_PRELOAD
# stage: shipped
# expect: foreign_library_loaded
#   elf_file.elf_file_path: $path
#   elf_file.elf_file_hash_sha256: $sha256
#   elf_file.elf_file_type: SHARED_OBJECT
#   process.process_id: $pid

#: prepare
cp /opt/stranger.so /tmp/f08b.so; fact path /tmp/f08b.so
fact sha256 "$(sha256sum < /tmp/f08b.so | cut -d' ' -f1)"
#: act
act
LD_PRELOAD=/tmp/f08b.so sleep 600 & fact pid $!; seen; over $pid
#: clean
rm /tmp/f08b.so
