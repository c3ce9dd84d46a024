# A06: a foreign program starts when a user has filled the room for processes
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /opt/stranger
#   process.process_id: $pid

#: prepare
. lib/covers.sh
many_processes 4300 6000.06 /tmp/a06.ready
#: act
act
/opt/stranger 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $crowd; pkill -f '^sleep 6000[.]06'; rm /tmp/a06.ready
