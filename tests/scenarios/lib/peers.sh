# peer PORT [LINE]    accepts a connection, sends a line, and closes it when the scenario is over
# peer6 PORT          the same for either family
# knock PORT          connects instead
# commander PORT SECONDS LINE [PAUSE]  accepts a connection, sends a line twice a second, or each
#                     PAUSE seconds, and closes it after so many seconds, or when the scenario is
#                     over; the first one comes half a second after the connection: `within: 1500
#                     ms` is one second after it
. lib/looks.sh
peer() {
  python3 -c '
import os, socket, sys, time
server = socket.create_server(("", int(sys.argv[1])))
connection, _ = server.accept()
connection.sendall(sys.argv[2].encode() + b"\n")
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
' $1 "${2:-:}" > /dev/null 2>&1 &
  await "grep -q :$(printf %04X $1).*:0000.0A /proc/net/tcp"
}
peer6() {
  python3 -c '
import os, socket, sys, time
server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
connection, _ = server.accept()
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
' $1 > /dev/null 2>&1 &
  await "grep -q :$(printf %04X $1).*:0000.0A /proc/net/tcp6"
}
knock() {
  python3 -c '
import os, socket, sys, time
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall(b":\n")
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
' $1 > /dev/null 2>&1 &
}
commander() {
  python3 -c '
import os, socket, sys, time
server = socket.create_server(("", int(sys.argv[1])))
connection, _ = server.accept()
end = time.monotonic() + float(sys.argv[2])
while os.path.exists(os.environ["hold"]) and time.monotonic() < end:
    time.sleep(float(sys.argv[4])); connection.sendall(sys.argv[3].encode() + b"\n")
' $1 $2 "$3" ${4:-0.5} > /dev/null 2>&1 &
  await "grep -q :$(printf %04X $1).*:0000.0A /proc/net/tcp"
}
