# P07: a hundred processes that end at once
# stage: behaviour
# expect: process_created
#   process.process_id: $pid
# expect: process_terminated
#   process.process_id: $pid
# expect: process_terminated at least 1
#   process.process_command_line_arguments: /bin/busybox true

#: act
act
for i in {1..100}; do /bin/busybox true; done
sleep 600 & fact pid $!; scanned; over $pid
# A slow watcher misses them all.
until come || ((SECONDS > 60)); do /bin/busybox true; done
