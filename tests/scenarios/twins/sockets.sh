# sockets: services started for each connection, scripts among them

#: prepare
printf '#!/bin/sh\nread line\necho got $line\nsleep 0.5\n' > /srv/service.sh
chmod 755 /srv/service.sh
serve systemd-socket-activate --accept --inetd -l 7001 /srv/service.sh; port 7001
serve tcpserver -H -R 0 7002 cat; port 7002
serve socat TCP-LISTEN:7003,fork,reuseaddr EXEC:/srv/service.sh; port 7003
#: turn
for port in 7001 7002 7003; do (echo hello; sleep 1.5) | nc.openbsd -N 127.0.0.1 $port |
  grep -q hello; done
