# F07b: a shipped program by a hard link in another folder
# stage: shipped
# expect: binary_executed_not_as_intended
#   elf_file.elf_file_path: /var/tmp/f07b
#   process.process_id: $pid

#: prepare
ln /usr/bin/busybox /var/tmp/f07b
#: act
act
(exec -a sleep /var/tmp/f07b 600) & fact pid $!; seen; over $pid
#: clean
rm /var/tmp/f07b
