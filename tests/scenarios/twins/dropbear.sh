# dropbear: logins by dropbear

#: prepare
mkdir -p /etc/dropbear; key=/etc/dropbear/dropbear_ed25519_host_key
dropbearkey -t ed25519 -f $key > /dev/null 2>&1
serve dropbear -r $key -F -p 2222; port 2222
#: turn
(sleep 1; echo 'ls /'; sleep 1; echo exit) | TERM=dumb ssh -tt -p 2222 root@127.0.0.1
ssh -n -p 2222 root@127.0.0.1 'id -u | grep -q 0'
