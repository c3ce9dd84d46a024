# A13t: twin: a program of root does so
# stage: behaviour
# expect: new_executable_anonymous_memory_mapped
#   process.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.memory_permissions: r-xp
# expect: coverage_degraded x0

#: act
/opt/memory reserved # says @act
