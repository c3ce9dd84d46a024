# M12: a program becomes itself again, 200 times
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
# expect: file_unmapped x0
#   process.process_id: $pid
#   process_memory.file_path: /opt/memory

#: act
/opt/memory again 200 # says @act
