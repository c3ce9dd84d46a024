# telnet: logins by telnet

#: prepare
serve busybox telnetd -F -p 2323 -l /bin/sh; port 2323
#: turn
(sleep 2; echo 'echo it-"works"'; sleep 2; echo exit; sleep 1) |
  busybox telnet 127.0.0.1 2323 > /tmp/telnet.out || true
grep -q it-works /tmp/telnet.out
