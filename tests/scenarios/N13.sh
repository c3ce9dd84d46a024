# N13: a connection in a network namespace of its own
# stage: behaviour
# expect: network_connection_created
#   network_connection.source_port: $port
#   process.process_id: $pid
#   process.process_network_namespace: $namespace
#   network_connection.workload_network_interface_name: lo
# expect: network_connection_created
#   network_connection.destination_port: $port
# expect: network_connection_terminated
#   network_connection.source_port: $port
# expect: network_connection_terminated
#   network_connection.destination_port: $port
#
# With the namespace all that waits in it ends.

#: act
act
unshare -n python3 -c 'import fcntl, os, pace, socket, struct
print("@fact namespace", os.readlink("/proc/self/ns/net"))
control = socket.socket()
fcntl.ioctl(control, 0x8914, struct.pack("16sH22x", b"lo", 1))
server = socket.create_server(("127.0.0.1", 7109))
client = socket.create_connection(("127.0.0.1", 7109))
peer, _ = server.accept()
print("@fact port", client.getsockname()[1], flush=True)
pace.scanned()' & fact pid $!
wait $pid
