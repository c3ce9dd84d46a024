# F04d: a foreign program, run by the dynamic loader
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /tmp/f04d
#   process.process_id: $pid

#: prepare
cp /opt/stranger-dynamic /tmp/f04d
#: act
act
/lib64/ld-linux-x86-64.so.2 /tmp/f04d 600 & fact pid $!; seen; over $pid
#: clean
rm /tmp/f04d
