# N03: a connection carries much data, one way
# stage: thresholds
# expect: tcp_connection_excessive_data
#   network_connection.source_port: $port
#   network_connection.source_ip_address: 127.0.0.1
#   network_connection.tcp_bytes_in: 0
#   network_connection.connection_state: ESTABLISHED
#   network_connection.workload_network_interface_name: lo
#   process.process_id: $pid
#   file_descriptor.file_descriptor_file_type: SOCKET
#   detection.reason: ~bytes went out from 127.0.0.1:$port to 127.0.0.1:7104, more than the threshold of 1048576
#   detection.mitre_attack: ["T1041","T1048"]
#   record.severity: LOW
# expect: tcp_connection_excessive_data
#   network_connection.source_port: 7104
#   network_connection.tcp_bytes_out: 0
#   process.process_id: $pid
#   detection.reason: ~bytes came in from 127.0.0.1:$port to 127.0.0.1:7104, more than the threshold of 1048576
#   detection.mitre_attack: ["T1105"]
# allow: tcp_long_lasting_connection
#   network_connection.source_port: $port
# allow: tcp_long_lasting_connection
#   network_connection.destination_port: $port

#: prepare
echo 0 > /proc/sys/net/ipv4/tcp_max_tw_buckets
#: act
python3 -c 'import pace, socket, threading
server = socket.create_server(("127.0.0.1", 7104))
client = socket.create_connection(("127.0.0.1", 7104))
peer, _ = server.accept()
def drain():
    while peer.recv(65536): pass
threading.Thread(target=drain).start()
print("@fact port", client.getsockname()[1])
client.sendall(bytes(1 << 20)); pace.scanned()
print("@act", flush=True)
client.sendall(bytes(1 << 16)); pace.scanned()
client.sendall(bytes(3 << 20)); pace.scanned()
client.close()' & fact pid $!
wait $pid
#: clean
echo 8192 > /proc/sys/net/ipv4/tcp_max_tw_buckets
