# F04: a foreign program
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: $path
#   process.process_id: $pid
#   elf_file.elf_file_hash_sha256: $sha256
#   elf_file.elf_file_hash_sha1: $sha1
#   elf_file.elf_file_hash_md5: $md5
#   elf_file.elf_file_size_bytes: $size
#   elf_file.elf_file_inode_number: $inode

#: prepare
cp /opt/stranger /tmp/f04; fact path /tmp/f04
for kind in sha256 sha1 md5; do fact $kind "$(${kind}sum < /tmp/f04 | cut -d' ' -f1)"; done
fact size "$(stat -c %s /tmp/f04)"; fact inode "$(stat -c %i /tmp/f04)"
#: act
act
/tmp/f04 600 & fact pid $!; seen; over $pid
#: clean
rm /tmp/f04
