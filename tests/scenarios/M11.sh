# M11: a program with 60,000 areas of memory: there is room for them
# stage: equipped
# expect: process_terminated
#   process.process_id: $pid

#: act
act
python3 -c '
import mmap, pace
kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
prot = [mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE]
areas = [mmap.mmap(-1, 4096, kind, prot[i % 2]) for i in range(60000)]
assert sum(1 for line in open("/proc/self/maps")) > 60000
pace.scanned()' & fact pid $!
wait $pid
