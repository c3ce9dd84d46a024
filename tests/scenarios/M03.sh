# M03: the program's text is patched
# stage: behaviour
# expect: executable_permissions_removed
#   process.process_id: $pid
#   process_memory.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: rw-p
#   detection.reason: ~4096 bytes of the program itself /opt/memory at $start are text by the file's own headers
#   process_memory.is_main_process_executable: true
#   process_memory.file_path: /opt/memory
#   process_memory.file_name: memory
#   detection.mitre_attack: ["T1055"]
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.memory_permissions: r-xp
#   process_memory.file_path: /opt/memory
#   detection.reason: ~4096 bytes of the program itself /opt/memory at $start are text that was written to
#
# It is a part of all the text again.

#: act
/opt/memory text # says @act
