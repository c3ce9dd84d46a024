# F07: a shipped program from another folder
# stage: shipped
# expect: binary_executed_not_as_intended
#   elf_file.elf_file_path: /tmp/nc
#   process.process_id: $pid

#: prepare
cp /usr/bin/busybox /tmp/nc
#: act
act
/tmp/nc -l -p 7101 & fact pid $!; seen; over $pid
#: clean
rm /tmp/nc
