# P30: a program with a kernel thread's name computes, and holds a connection
# stage: thresholds
# expect: tcp_long_lasting_connection
#   network_connection.destination_port: 3333
#   process.process_id: $pid
#   process.process_executable_path: /usr/bin/python3.11
# expect: tcp_long_lasting_connection
#   network_connection.source_port: 3333
#   process.process_id: $pool
# expect: process_terminated
#   process.process_id: $pid

#: act
act
python3 -c 'import socket, sys
server = socket.create_server(("127.0.0.1", 3333)); print("@fact listens 1", flush=True)
peer, _ = server.accept(); peer.recv(1)' & fact pool $!
await 'grep -q :0D05.*0A /proc/net/tcp'
(exec -a kswapd0 python3 -c 'import socket, time
pool = socket.create_connection(("127.0.0.1", 3333))
while True: pass') & fact pid $!
seen 2; over $pid; wait $pool
