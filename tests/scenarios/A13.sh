# A13: a user's program makes memory executable inside reserved space, as runtimes do
# stage: behaviour
# expect: executable_permissions_added
#   process.process_id: $pid
#   process_memory.virtual_memory_area_start_address: $start
#   process_memory.memory_permissions: r-xp
#   detection.reason: ~any user could have put this program there
#   detection.confidence: low

#: prepare
cp /opt/memory /tmp/a13; chown 1000 /tmp/a13
#: act
/tmp/a13 reserved # says @act
#: clean
rm /tmp/a13
