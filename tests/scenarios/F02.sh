# F02: a copied program that is deleted while it runs
# stage: shipped
# expect: binary_executed_not_as_intended
#   elf_file.elf_file_path: /tmp/f02
#   process.process_id: $pid

#: prepare
cp /bin/busybox /tmp/f02
#: act
act
(exec -a sleep /tmp/f02 600) & fact pid $!
seen; rm /tmp/f02; scanned; over $pid
