# N01b: a connection waits when its processes have ended
# stage: behaviour
# expect: network_connection_created
#   network_connection.source_port: $port
# expect: network_connection_created
#   network_connection.destination_port: $port
# expect: tcp_network_connection_state_change
#   network_connection.source_port: $port
#   network_connection.connection_state: TIME_WAIT
#   process.process_id: $pid
# expect: network_connection_terminated
#   network_connection.destination_port: $port

#: act
act
python3 -c 'import pace, socket
server = socket.create_server(("127.0.0.1", 7102))
client = socket.create_connection(("127.0.0.1", 7102))
peer, _ = server.accept()
port = client.getsockname()[1]; print("@fact port", port, flush=True)
pace.scanned()
client.close(); peer.close(); pace.scanned(); pace.scanned()
try: pace.lacks("network_connection_terminated", "network_connection.source_port=$port")
except AssertionError:
    ends = [line.split()[1] for line in open("/proc/net/tcp")]
    assert "0100007F:%04X" % port not in ends, "it still waits"
' & fact pid $!
wait $pid
