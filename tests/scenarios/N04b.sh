# N04b: a connection does not last long, and waits long
# stage: thresholds
# expect: tcp_network_connection_state_change
#   network_connection.source_port: $port
#   network_connection.connection_state: TIME_WAIT

#: act
act
python3 -c 'import pace, socket, time
server = socket.create_server(("127.0.0.1", 7107))
client = socket.create_connection(("127.0.0.1", 7107))
peer, _ = server.accept()
port = client.getsockname()[1]; print("@fact port", port, flush=True)
pace.seen("network_connection_created", "network_connection.source_port=$port")
client.close(); peer.close()
time.sleep(15); pace.scanned()
try: pace.lacks("network_connection_terminated", "network_connection.source_port=$port")
except AssertionError:
    ends = [line.split()[1] for line in open("/proc/net/tcp")]
    assert "0100007F:%04X" % port not in ends, "it still waits"
' & fact pid $!
wait $pid
