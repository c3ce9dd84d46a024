# P24: a library is loaded before all others, by the environment
# stage: behaviour
# expect: new_file_mapped
#   process_memory.file_path: /tmp/p24.so
#   process_memory.memory_permissions: r-xp
#   process.process_id: $pid
# expect: process_terminated
#   process.process_id: $pid

#: prepare
cp "$(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1)" /tmp/p24.so
#: act
act
LD_PRELOAD=/tmp/p24.so sleep 600 & fact pid $!; seen 1; over $pid
#: clean
rm /tmp/p24.so
