# R16b: socat carries a shell over UDP
# stage: equipped
# expect: reverse_shell_detected
#   reverse_shell.process_list.0.process_id: $socat

#: prepare
. lib/peers.sh
socat UDP-LISTEN:4426 EXEC:cat > /dev/null 2>&1 & fact far $!
await 'grep -q :114A /proc/net/udp'
#: act
. lib/peers.sh
act
socat UDP:127.0.0.1:4426 'EXEC:sh -i,stderr' > /dev/null 2>&1 & fact socat $!
who shell 'sh -i'
await 'at $shell 0 socket:*'
seen; kill $socat $shell
#: clean
pkill -x socat || true
