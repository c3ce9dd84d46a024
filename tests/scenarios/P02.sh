# P02: a process forks and runs no other program
# stage: behaviour
# expect: process_created
#   process.process_id: $pid
# expect: process_terminated
#   process.process_id: $pid
#   process.process_executable_path: /usr/bin/python3.11

#: act
act
python3 -c 'import os, pace, signal, sys
pid = os.fork()
if pid: print("@fact pid", pid); sys.stdout.flush(); pace.scanned(); os.kill(pid, 9); os.wait()
else: signal.pause()'
