# cron: jobs that cron starts, with pipes, and with input

#: prepare
touch /var/log/twin-cron
mkdir -p /var/spool/cron/crontabs /etc/cron.d
printf 'SHELL=/bin/bash\n* * * * * root echo input | cat > /dev/null; sleep 1; date >> /var/log/twin-cron\n* * * * * user sh -c "read a; true"%%some input\n' > /etc/cron.d/twins
serve cron -f
#: turn
before=$(wc -l < /var/log/twin-cron)
for i in {1..140}; do [ "$(wc -l < /var/log/twin-cron)" = $before ] || exit 0; sleep 1; done
exit 1
