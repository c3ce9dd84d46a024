# M04: the stack is made executable
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: rwxp
#   detection.reason: ~of the stack at $start can be executed
#   detection.confidence: high

#: act
/opt/memory stack # says @act
