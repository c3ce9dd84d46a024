# port NUMBER         waits for a listener
# finish PID          once the watcher has scanned it: ends what holds, waits for its end
# gone PID            waits for a process's end
# serve PORT          accepts a connection and keeps it until the scenario is over
# answer PORT COUNT   answers so many requests
# ssh_server PORT     sshd, with a key for root
. lib/looks.sh
port() { await "grep -q ':$(printf %04X $1) 0*:0000 0A' /proc/net/tcp /proc/net/tcp6"; }
finish() { scanned; let_all; gone $1; }
gone() { await "! [ -e /proc/$1 ]"; }
serve() {
  python3 -c '
import os, socket, sys, time
server = socket.create_server(("", int(sys.argv[1])))
connection, _ = server.accept()
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
' $1 > /dev/null 2>&1 &
  port $1
}
answer() {
  python3 -c '
import socket, sys, time
server = socket.create_server(("", int(sys.argv[1])))
for _ in range(int(sys.argv[2])):
    connection, _ = server.accept()
    connection.recv(4096); time.sleep(0.03)
    connection.sendall(b"200 UP\n"); connection.close()
' $1 $2 > /dev/null 2>&1 &
  port $1
}
ssh_server() {
  mkdir -p /run/sshd /root/.ssh; chmod 700 /root /root/.ssh
  [ -f /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
  [ -f /etc/ssh/ssh_host_ed25519_key ] ||
    ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
  cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
  printf 'Host *\nStrictHostKeyChecking no\nLogLevel ERROR\n' > /root/.ssh/config
  /usr/sbin/sshd -f /usr/share/openssh/sshd_config -o UsePAM=yes -o PermitRootLogin=yes -p $1 -E \
    /tmp/sshd.log
  port $1
}
