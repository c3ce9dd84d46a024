# F06: a shipped program with one byte changed
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
cp -p /usr/bin/tail /tmp/f06; fact path /usr/bin/tail
printf x | dd of=/usr/bin/tail bs=1 seek=$(($(stat -c %s /tmp/f06) - 1)) conv=notrunc 2>/dev/null
! cmp -s /usr/bin/tail /tmp/f06
for kind in sha256 sha1 md5; do fact $kind "$(${kind}sum < /usr/bin/tail | cut -d' ' -f1)"; done
fact size "$(stat -c %s /usr/bin/tail)"; fact inode "$(stat -c %i /usr/bin/tail)"
#: act
act
tail -f /dev/null & fact pid $!; seen; over $pid
#: clean
cp -p /tmp/f06 /usr/bin/tail; rm /tmp/f06
