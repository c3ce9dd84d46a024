# P06: a process that its parent never waits for
# stage: thresholds
# expect: process_zombie
#   process.process_id: $pid
#   process.process_state: Z (zombie)
# expect: process_terminated
#   process.process_id: $pid

#: act
act
python3 -c 'import os, pace, sys
pid = os.fork()
if not pid: os._exit(0)
print("@fact pid", pid); sys.stdout.flush(); pace.seen(1); os.wait()'
