# A14: memory becomes executable when a user has filled the room for areas
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.memory_permissions: r-xp

#: prepare
. lib/covers.sh
many_areas 64000 5 6000.14 /tmp/a14.ready
#: act
/opt/memory written # says @act
#: clean
pkill -f ' 6000[.]14$'; rm /tmp/a14.ready
