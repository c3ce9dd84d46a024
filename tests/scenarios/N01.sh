# N01: a connection is made and closed
# stage: behaviour
# expect: network_connection_created
#   network_connection.source_port: $port
# expect: network_connection_created
#   network_connection.destination_port: $port
# expect: tcp_network_connection_state_change
#   network_connection.source_port: $port
#   network_connection.connection_state: FIN_WAIT_2
#   network_connection.tcp_bytes_in: 2000
#   network_connection.tcp_bytes_out: 1000
#   process.process_id: $pid
# expect: tcp_network_connection_state_change
#   network_connection.destination_port: $port
#   network_connection.connection_state: CLOSE_WAIT
#   network_connection.tcp_bytes_out: 2000
#   process.process_id: $pid
# expect: network_connection_terminated
#   network_connection.source_port: $port
#   network_connection.destination_port: 7101
#   network_connection.tcp_bytes_out: 1000
# expect: network_connection_terminated
#   network_connection.source_port: 7101
#   network_connection.destination_port: $port
#   network_connection.tcp_bytes_in: 1001
#   network_connection.tcp_bytes_out: 2000
#   process.process_id: $pid
#
# The kernel counts the end of what came in as a byte: here it may have, right before the socket
# goes.

#: prepare
echo 0 > /proc/sys/net/ipv4/tcp_max_tw_buckets
#: act
act
python3 -c 'import pace, socket, time
server = socket.create_server(("127.0.0.1", 7101))
client = socket.create_connection(("127.0.0.1", 7101))
peer, _ = server.accept()
print("@fact port", client.getsockname()[1], flush=True)
client.sendall(b"x" * 1000); peer.sendall(b"y" * 2000)
assert len(peer.recv(5000)) == 1000 and len(client.recv(5000)) == 2000
pace.scanned()
client.shutdown(socket.SHUT_WR)
# The peer may acknowledge that late.
while not any(line.split()[3] == "05" for line in open("/proc/net/tcp")): time.sleep(0.005)
pace.scanned(); peer.close(); pace.scanned()' & fact pid $!
wait $pid
#: clean
echo 8192 > /proc/sys/net/ipv4/tcp_max_tw_buckets
