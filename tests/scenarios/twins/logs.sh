# logs: logs that are written and rotated

#: prepare
mkdir -p /var/log/twins
cat > /etc/logrotate-twins <<'CONF'
/var/log/twins/a.log { rotate 3
 size 1
 create 600 root root
 missingok
}
/var/log/twins/b.log { rotate 2
 size 1
 copytruncate
 missingok
}
CONF
for name in a b; do (while sleep 0.5; do echo line >> /var/log/twins/$name.log
  done) > /dev/null 2>&1 & done
#: turn
sleep 2; /usr/sbin/logrotate -f -s /var/lib/logrotate/twins /etc/logrotate-twins
[ -s /var/log/twins/a.log.1 ] && [ -s /var/log/twins/b.log.1 ]
