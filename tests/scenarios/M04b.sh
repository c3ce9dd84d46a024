# M04b: the heap is made executable
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: rwxp
#   detection.reason: ~of the heap at $start can be executed
#   process_memory.memory_name: [heap]

#: act
/opt/memory heap # says @act
