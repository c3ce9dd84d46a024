# F05: a shipped program with bytes appended
# stage: shipped
# expect: foreign_binary_executed_file_size_mismatch
#   elf_file.elf_file_path: $path
#   process.process_id: $pid
#   elf_file.elf_file_hash_sha256: $sha256
#   elf_file.elf_file_hash_sha1: $sha1
#   elf_file.elf_file_hash_md5: $md5
#   elf_file.elf_file_size_bytes: $size
#   elf_file.elf_file_inode_number: $inode
# expect: foreign_binary_executed
#   elf_file.elf_file_path: $path
#   process.process_id: $pid
#   elf_file.elf_file_hash_sha256: $sha256
#   elf_file.elf_file_hash_sha1: $sha1
#   elf_file.elf_file_hash_md5: $md5
#   elf_file.elf_file_size_bytes: $size
#   elf_file.elf_file_inode_number: $inode

#: prepare
cp -p /usr/bin/tail /tmp/f05; printf x >> /usr/bin/tail; fact path /usr/bin/tail
for kind in sha256 sha1 md5; do fact $kind "$(${kind}sum < /usr/bin/tail | cut -d' ' -f1)"; done
fact size "$(stat -c %s /usr/bin/tail)"; fact inode "$(stat -c %i /usr/bin/tail)"
#: act
act
tail -f /dev/null & fact pid $!; seen; over $pid
#: clean
cp -p /tmp/f05 /usr/bin/tail; rm /tmp/f05
