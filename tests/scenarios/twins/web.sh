# web: a web server that runs scripts for requests

#: turn
for i in 1 2 3; do
  for path in a.sh b.pl c.py d.bin; do curl -sf --data hello http://127.0.0.1/$path \
    > /tmp/web.$path; done
  curl -sf http://127.0.0.1/script.txt > /dev/null
done
grep -q 3 /tmp/web.a.sh; grep -q 0 /tmp/web.b.pl; grep -q 0 /tmp/web.c.py
grep -q hello /tmp/web.d.bin
