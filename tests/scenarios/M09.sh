# M09: a library is loaded and unloaded, again and again
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
# expect: new_file_mapped x5
#   process.process_id: $pid
#   process_memory.file_path: /opt/stranger.so
#   process_memory.memory_permissions: r-xp
# expect: file_unmapped x5
#   process.process_id: $pid
#   process_memory.file_path: /opt/stranger.so
#   process_memory.memory_permissions: r-xp

#: act
/opt/memory libraries /opt/stranger.so # says @act
