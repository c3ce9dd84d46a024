# A15t: twin: a process exchanges its standard input now and then
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid
# expect: coverage_degraded x0

#: act
act
python3 -c '
import os, time
other = os.open("/dev/zero", os.O_RDONLY); null = os.open("/dev/null", os.O_RDONLY)
for _ in range(50):
    os.dup2(other, 0); os.dup2(null, 0); time.sleep(0.05)' < /dev/null & fact pid $!
wait $pid
