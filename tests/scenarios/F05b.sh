# F05b: a shipped program made longer by a hole
# stage: shipped
# expect: foreign_binary_executed_file_size_mismatch
#   elf_file.elf_file_path: /usr/bin/tail
#   process.process_id: $pid
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /usr/bin/tail
#   process.process_id: $pid

#: prepare
cp -p /usr/bin/tail /tmp/f05b; truncate -s +1M /usr/bin/tail
#: act
act
tail -f /dev/null & fact pid $!; seen; over $pid
#: clean
cp -p /tmp/f05b /usr/bin/tail; rm /tmp/f05b
