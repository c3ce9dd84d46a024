# R57: socat gives a shell to any sender of datagrams
# stage: equipped
# within: 8000 ms
# expect: reverse_shell_detected
#   detection.reason: ~takes commands that any address may send
#   detection.confidence: low
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $socat
#   reverse_shell.process_list.1.process_id: $shell

#: act
. lib/peers.sh
act
socat UDP-DATAGRAM:127.0.0.1:4676,bind=0.0.0.0:4677 'EXEC:sh -s r57,stderr' \
  < /dev/null > /dev/null 2>&1 & fact socat $!
who shell 'sh -s r57'
await 'at $shell 0 socket:* && same $shell 0 $shell 1'
python3 -c '
import socket
socket.socket(type=socket.SOCK_DGRAM).sendto(b"id\n", ("127.0.0.1", 4677))' || true
seen; kill $socat $shell
