# P03: a process becomes another program
# stage: behaviour
# expect: process_created
#   process.process_id: $pid
# expect: new_file_mapped
#   process_memory.file_path: /usr/bin/sleep
#   process_memory.memory_permissions: r-xp
#   process.process_id: $pid
# expect: process_terminated
#   process.process_id: $pid
#   process.process_executable_path: /usr/bin/sleep
#   process.process_command_line_arguments: sleep 600.6

#: prepare
rm -f /tmp/p03; mkfifo /tmp/p03
#: act
act
bash -c 'read -r _ < /tmp/p03; exec sleep 600.6' & fact pid $!
runs $pid bash; seen 1; echo > /tmp/p03; seen 2; over $pid
#: clean
rm /tmp/p03
