# F04c: a foreign program, linked dynamically
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /tmp/f04c
#   elf_file.elf_file_type: SHARED_OBJECT
#   process.process_id: $pid

#: prepare
cp /opt/stranger-dynamic /tmp/f04c
#: act
act
/tmp/f04c 600 & fact pid $!; seen; over $pid
#: clean
rm /tmp/f04c
