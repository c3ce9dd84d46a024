# M02e: the same in shared memory
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: r-xs
#   detection.reason: ~4096 bytes of shared memory at $start

#: act
/opt/memory shared # says @act
