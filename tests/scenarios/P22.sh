# P22: a process's code is written by another, through /proc
# stage: behaviour
# expect: file_descriptor_open
#   file_descriptor.file_descriptor_name: /proc/$pid/mem
#   process.process_id: $writer
# expect: process_terminated
#   process.process_id: $pid

#: prepare
sleep 6000 > /dev/null 2>&1 & fact pid $!; runs $pid sleep
#: act
act
python3 -c "import pace
text = [line for line in open('/proc/$pid/maps') if 'r-xp' in line and 'sleep' in line][0]
start = int(text.split('-')[0], 16)
with open('/proc/$pid/mem', 'r+b', buffering=0) as memory:
    memory.seek(start); code = memory.read(16)
    memory.seek(start); memory.write(code)
    pace.scanned()" & fact writer $!
wait $writer; kill $pid
