# F02b: a foreign program that is deleted as soon as it runs
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: ~/tmp/f02b
#   elf_file.elf_file_hash_sha256: $sha256
#   process.process_id: $pid

#: prepare
cp /opt/stranger /tmp/f02b; fact sha256 "$(sha256sum < /tmp/f02b | cut -d' ' -f1)"
#: act
act
/tmp/f02b 600 & fact pid $!
await '[ /proc/$pid/exe -ef /tmp/f02b ]'; rm /tmp/f02b
seen; over $pid
