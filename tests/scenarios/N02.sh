# N02: a connection attempt gets no answer
# stage: behaviour
# expect: network_connection_created
#   network_connection.source_port: $port
#   network_connection.source_ip_address: 10.0.2.15
#   network_connection.destination_ip_address: 10.0.2.99
#   network_connection.connection_state: SYN_SENT
#   network_connection.workload_network_interface_name: eth0
#   process.process_id: $pid
# expect: network_connection_terminated
#   network_connection.source_port: $port
#
# Nobody has this address in the guest's own network. What is beyond that, the machine outside may
# answer for.

#: act
act
python3 -c 'import pace, socket
client = socket.socket(); client.setblocking(False)
client.connect_ex(("10.0.2.99", 81))
print("@fact port", client.getsockname()[1], flush=True)
pace.scanned()' & fact pid $!
wait $pid
