# M02d: code is hidden, and shown again
# stage: behaviour
# expect: executable_permissions_added x2
#   process.process_id: $pid
#   process_memory.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.virtual_memory_area_end_address: $end
#   process_memory.memory_permissions: r-xp
#   detection.reason: ~rw-p before, r-xp now
# expect: executable_permissions_removed
#   process.process_id: $pid
#   process_memory.memory_permissions: rw-p
#   detection.reason: ~4096 bytes of memory without a file at $start could be executed
#
# Where it is not executable it is no area of its own.

#: act
/opt/memory hidden # says @act
