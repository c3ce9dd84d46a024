# M05d: twin: grep compiles expressions
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
# expect: new_executable_anonymous_memory_mapped
#   process.process_id: $pid
#   process_memory.memory_permissions: rwxp

#: act
act
for n in $(seq 40); do grep -P '^(root|user)[a-z0-9:]+(x|y)*' /etc/passwd > /dev/null; done
grep -P 'nothing' /dev/zero & fact pid $!
seen new_executable_anonymous_memory_mapped process.process_id=$pid; over $pid
