# rsync: files by rsync over ssh

#: prepare
mkdir -p /srv/rsync; for i in {1..20}; do head -c 100000 /dev/urandom > /srv/rsync/$i; done
#: turn
rm -rf /tmp/rsync; rsync -a /srv/rsync/ root@127.0.0.1:/tmp/rsync < /dev/null
cmp /srv/rsync/7 /tmp/rsync/7
rsync -a --delete root@127.0.0.1:/srv/rsync/ /tmp/rsync/ < /dev/null
