# cron: jobs that cron starts, with pipes, and with input

#: prepare
touch /var/log/twin-cron
mkdir -p /var/spool/cron/crontabs /etc/cron.d
cat > /etc/cron.d/twins <<'CRON'
SHELL=/bin/bash
* * * * * root echo input | cat > /dev/null; sleep 1; date >> /var/log/twin-cron
* * * * * user sh -c "read a; true"%some input
CRON
serve cron -f
#: turn
before=$(wc -l < /var/log/twin-cron)
for i in {1..140}; do [ "$(wc -l < /var/log/twin-cron)" = $before ] || exit 0; sleep 1; done
exit 1
