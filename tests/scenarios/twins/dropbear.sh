# dropbear: logins by dropbear

#: prepare
mkdir -p /etc/dropbear; serve dropbear -R -F -p 2222; port 2222
#: turn
(sleep 1; echo 'ls /'; sleep 1; echo exit) | TERM=dumb ssh -tt -p 2222 root@127.0.0.1
ssh -n -p 2222 root@127.0.0.1 'id -u | grep -q 0'
