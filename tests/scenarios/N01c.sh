# N01c: a process listens
# stage: behaviour
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_file_type: SOCKET
# expect: network_connection_created x0
#   network_connection.source_port: 7103
# expect: network_connection_terminated x0
#   network_connection.source_port: 7103

#: act
act
python3 -c 'import socket, time
server = socket.create_server(("127.0.0.1", 7103)); time.sleep(600)' & fact pid $!
seen; scanned; over $pid
