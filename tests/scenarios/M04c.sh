# M04c: a program's data is made executable
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: r-xp
#   detection.reason: ~which the file does not say of them
#   process_memory.is_main_process_executable: true
#   process_memory.file_path: /opt/memory

#: act
/opt/memory data # says @act
