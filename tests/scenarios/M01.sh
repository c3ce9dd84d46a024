# M01: memory is mapped to be written and executed
# stage: behaviour
# expect: new_executable_anonymous_memory_mapped
#   process.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: rwxp

#: act
/opt/memory mapped # says @act
