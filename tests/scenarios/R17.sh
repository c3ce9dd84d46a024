# R17: a bind shell: nc accepts and becomes a shell
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~accepted
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.source_port: 4417

#: prepare
. lib/peers.sh
nc -lp 4417 -e /bin/sh < /dev/null > /dev/null 2>&1 & fact shell $!
await 'grep -q :1141.*:0000.0A /proc/net/tcp /proc/net/tcp6'
#: act
. lib/peers.sh
act
knock 4417
await 'at $shell ../exe /usr/bin/dash && at $shell 0 socket:*'
