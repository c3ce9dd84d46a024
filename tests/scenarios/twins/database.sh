# database: a database server, its clients, and shells started by those

#: prepare
mkdir -p /srv/database /run/mysqld
mariadb-install-db --no-defaults --user=root --datadir=/srv/database \
  --auth-root-authentication-method=normal > /tmp/database.log 2>&1
serve mariadbd --no-defaults --user=root --datadir=/srv/database --bind-address=127.0.0.1 \
  --innodb-buffer-pool-size=16M
for i in {1..60}; do mariadb --no-defaults -h 127.0.0.1 -e 'select 1' && break; sleep 1
done > /dev/null 2>&1
mariadb --no-defaults -h 127.0.0.1 -e 'create database twins; create table twins.t (a int)'
#: turn
client() { mariadb --no-defaults -h 127.0.0.1 "$@"; }
for i in {1..10}; do client -e "insert into twins.t values ($i)"; done
client -e 'select count(*) from twins.t' | grep -q 0
(echo 'select 1;'; echo '\! id -u'; echo '\! sh -c "sleep 1; id -u"'; echo 'select 2;') | client |
  grep -q 0
(sleep 1; echo '\! bash'; sleep 1; echo 'id -u; exit'; sleep 1; echo exit) |
  script -qc 'mariadb --no-defaults -h 127.0.0.1' /dev/null
