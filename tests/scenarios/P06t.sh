# P06t: twin: a process that its parent waits for after three seconds
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid

#: act
act
python3 -c 'import os, sys, time
pid = os.fork()
if not pid: os._exit(0)
print("@fact pid", pid); sys.stdout.flush(); time.sleep(3); os.wait()'
lacks process_zombie process.process_id=$pid
