# commander PORT ..    see peers.sh
# command_udp PORT     answers the first datagram with a command twice a second
# command_tls PORT     the commander, by TLS
# command_two PORT     the commander, and a second port that only reads
# command_bind PORT    connects to PORT as soon as something listens there
# end_way NAME         ends all processes that have NAME in their environment
. lib/peers.sh
. lib/pace.sh
command_tcp() { commander $1 300 id; }
command_six() {
  python3 -c '
import os, socket, sys, time
server = socket.create_server(("::1", int(sys.argv[1])), family=socket.AF_INET6)
connection, _ = server.accept()
while os.path.exists(os.environ["hold"]):
    time.sleep(0.5); connection.sendall(b"id\n")
' $1 > /dev/null 2>&1 &
  await "grep -q :$(printf %04X $1).*:0000.0A /proc/net/tcp6"
}
command_udp() {
  python3 -c '
import os, socket, sys, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", int(sys.argv[1])))
_, peer = server.recvfrom(4096)
while os.path.exists(os.environ["hold"]):
    time.sleep(0.5); server.sendto(b"id\n", peer)
' $1 > /dev/null 2>&1 &
  await "grep -q :$(printf %04X $1) /proc/net/udp"
}
command_tls() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=w -keyout \
    /tmp/ways.key -out /tmp/ways.pem 2> /dev/null
  (while [ -e $hold ]; do sleep 0.5; echo id; done | timeout 300 openssl s_server -quiet \
    -accept $1 -key /tmp/ways.key -cert /tmp/ways.pem) > /dev/null 2>&1 &
  await "grep -q :$(printf %04X $1).*:0000.0A /proc/net/tcp /proc/net/tcp6"
}
command_two() { commander $1 300 id; commander $(($1 + 1)) 300 ''; }
command_bind() {
  python3 -c '
import os, socket, sys, time
while True:
    try: connection = socket.create_connection(("127.0.0.1", int(sys.argv[1]))); break
    except OSError: time.sleep(0.05)
while os.path.exists(os.environ["hold"]):
    time.sleep(0.5); connection.sendall(b"id\n")
' $1 > /dev/null 2>&1 &
}
end_way() {
  # The guest has no /dev/fd, which `done < <(pgrep .)` needs.
  local each
  pgrep . | while read -r each; do
    if grep -qzx "way=$1" /proc/$each/environ 2> /dev/null; then kill -KILL $each || true; fi
  done
}
