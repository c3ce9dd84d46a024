# M03b: the text of a forked worker is patched
# stage: behaviour
# expect: executable_permissions_removed
#   process.process_id: $pid
#   process_memory.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: rw-p
#   detection.reason: ~4096 bytes of the program itself /opt/memory at $start are text by the file's own headers
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: r-xp
#   detection.reason: ~4096 bytes of the program itself /opt/memory at $start are text that was written to

#: act
/opt/memory worker # says @act
