# N06: a socket is closed with unsent data
# stage: behaviour
# expect: network_connection_created
#   network_connection.source_port: $port
# expect: tcp_network_connection_state_change
#   network_connection.source_port: $port
#   network_connection.connection_state: FIN_WAIT_1
#   process.process_id: $pid
#   file_descriptor.file_descriptor_name: null
# expect: network_connection_terminated
#   network_connection.source_port: $port
#
# Nobody holds it any more.

#: act
act
python3 -c 'import pace, socket
server = socket.create_server(("127.0.0.1", 7108))
client = socket.create_connection(("127.0.0.1", 7108))
peer, _ = server.accept()
print("@fact port", client.getsockname()[1], flush=True)
client.setblocking(False)
try:
    while True: client.send(bytes(65536))
except BlockingIOError: pass
pace.scanned()
client.close()
pace.scanned()' & fact pid $!
wait $pid
