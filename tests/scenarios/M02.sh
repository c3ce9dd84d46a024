# M02: memory is written, then made executable
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: r-xp
#   detection.reason: ~4096 bytes of memory without a file at $start were written and can be executed now
#   process_memory.is_main_process_executable: false
#   process.process_executable_path: /opt/memory
#   process.process_command_line_arguments: /opt/memory written
#   detection.mitre_attack: ["T1055","T1620"]
#   detection.confidence: medium
# expect: new_executable_anonymous_memory_mapped x0
#   process.process_id: $pid

#: act
/opt/memory written # says @act
