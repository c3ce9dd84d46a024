# P28: two hundred threads begin and end
# stage: behaviour
# expect: thread_created x200
#   process.process_id: $pid
# expect: thread_terminated x200
#   process.process_id: $pid
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_name: /etc/hostname

#: act
act
python3 -c 'import pace, threading
threading.stack_size(65536)
go = threading.Event()
held = open("/etc/hostname")
threads = [threading.Thread(target=go.wait) for _ in range(200)]
for thread in threads: thread.start()
pace.scanned(); go.set()
for thread in threads: thread.join()
pace.scanned()' & fact pid $!
wait $pid
