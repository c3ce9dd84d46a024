# P12: twin: threads that the kernel starts in a process
# stage: behaviour
# expect: thread_created
#   process.process_id: $pid
#   thread.thread_id: $thread
# expect: process_terminated
#   process.process_id: $pid

#: act
act
python3 -c 'import ctypes, os, struct, time
# io_uring_setup, with IORING_SETUP_SQPOLL: the kernel starts a thread of its own in this process.
parameters = ctypes.create_string_buffer(struct.pack("4I", 0, 0, 2, 1000) + bytes(104))
ring = ctypes.CDLL(None).syscall(425, 8, parameters)
time.sleep(600)
os._exit(ring < 0)' & fact pid $!
await 'grep -l iou-sqp- /proc/$pid/task/*/comm'
fact thread "$(ls /proc/$pid/task | sort -n | tail -n 1)"
seen 1; over $pid
