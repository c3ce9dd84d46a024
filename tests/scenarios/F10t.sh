# F10t: twin: a shipped script as it is
# stage: shipped
# expect: process_created
#   process.process_id: $pid
#
# Its output is full, so that it waits in its first write until the watcher found it.

#: act
rm -f /tmp/f10t; mkfifo /tmp/f10t; exec 8<> /tmp/f10t
dd if=/dev/zero of=/tmp/f10t bs=4096 count=16 oflag=nonblock 2> /dev/null
act
/usr/bin/ldd /usr/bin/python3.11 >&8 & fact pid $!
seen; scanned; head -c 65536 <&8 > /dev/null; wait $pid; exec 8>&-
#: clean
rm /tmp/f10t
