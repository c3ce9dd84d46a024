# M02f: the same, and a child that inherits it
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: r-xp
#   detection.reason: ~were written and can be executed now

#: act
/opt/memory forked # says @act
