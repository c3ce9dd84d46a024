# N04: a connection lasts long
# stage: thresholds
# expect: tcp_long_lasting_connection
#   network_connection.source_port: $port
#   network_connection.connection_state: ESTABLISHED
#   process.process_id: $pid
#   detection.reason: "~the connection of 127.0.0.1:$port with 127.0.0.1:7106 has lasted "
#   detection.mitre_attack: ["T1572","T1095"]
#   record.severity: LOW
# expect: tcp_long_lasting_connection
#   network_connection.destination_port: $port
#
# How many seconds depends on when the watcher found it.

#: prepare
echo 0 > /proc/sys/net/ipv4/tcp_max_tw_buckets
#: act
python3 -c 'import pace, socket, time
server = socket.create_server(("127.0.0.1", 7106))
client = socket.create_connection(("127.0.0.1", 7106))
peer, _ = server.accept()
print("@fact port", client.getsockname()[1], flush=True)
time.sleep(15)
print("@act", flush=True)
pace.seen()' & fact pid $!
wait $pid
#: clean
echo 8192 > /proc/sys/net/ipv4/tcp_max_tw_buckets
