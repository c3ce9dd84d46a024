# N03b: a connection carries less than the threshold, both ways
# stage: thresholds
# expect: network_connection_terminated
#   network_connection.source_port: $port
#   network_connection.tcp_bytes_in: 786432
# expect: network_connection_terminated
#   network_connection.destination_port: $port
# allow: tcp_long_lasting_connection
#   network_connection.source_port: $port
# allow: tcp_long_lasting_connection
#   network_connection.destination_port: $port
#
# What was sent is counted as often as it was sent: on a busy machine twice.

#: prepare
echo 0 > /proc/sys/net/ipv4/tcp_max_tw_buckets
#: act
act
python3 -c 'import pace, socket, struct, threading, time
server = socket.create_server(("127.0.0.1", 7105))
client = socket.create_connection(("127.0.0.1", 7105))
peer, _ = server.accept()
came = {client: 0, peer: 0}
reset = struct.pack("ii", 1, 0)
def drain(end):
    while some := end.recv(65536): came[end] += len(some)
for end in [client, peer]: threading.Thread(target=drain, args=[end], daemon=True).start()
# Ends by a reset: the kernel counts a FIN as a received byte, if a scan sees the connection then.
for end in [client, peer]: end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
print("@fact port", client.getsockname()[1], flush=True)
client.sendall(bytes(768 << 10)); peer.sendall(bytes(768 << 10))
while min(came.values()) < 768 << 10: time.sleep(0.05)
pace.scanned()' & fact pid $!
wait $pid
#: clean
echo 8192 > /proc/sys/net/ipv4/tcp_max_tw_buckets
