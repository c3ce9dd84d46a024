# M02c: the same, and it stays writable
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: rwxp
#   detection.reason: ~rw-p before, rwxp now

#: act
/opt/memory writable # says @act
