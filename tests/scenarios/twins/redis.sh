# redis: redis with its clients, and the copies that its children write

#: prepare
mkdir -p /srv/redis
serve redis-server --port 6379 --dir /srv/redis --save 60 1 --appendonly yes; port 6379
#: turn
for i in {1..10}; do redis-cli set key$i $i; done | grep -q OK
(sleep 1; echo incr twin; sleep 1; echo keys '*') | redis-cli | grep -q key1
redis-cli bgrewriteaof; await '! redis-cli info | grep -q "rewrite_in_progress:1"'
redis-cli bgsave; await '! redis-cli info | grep -q "bgsave_in_progress:1"'
[ -s /srv/redis/dump.rdb ]
