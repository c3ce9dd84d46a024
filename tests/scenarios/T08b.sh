# T08b: twin: lighttpd runs a script for a request
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
mkdir -p /tmp/t08b
printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\nread line\n%s\necho done\n' \
  "hold=$hold; $pause" > /tmp/t08b/x.sh
chmod 755 /tmp/t08b/x.sh
cat > /tmp/t08b/conf <<'CONF'
server.modules=("mod_cgi")
server.document-root="/tmp/t08b"
server.port=4513
cgi.assign=(".sh"=>"/bin/sh")
CONF
lighttpd -D -f /tmp/t08b/conf > /dev/null 2>&1 & fact server $!; port 4513
#: act
. lib/logins.sh
act
curl -s --data hello http://127.0.0.1:4513/x.sh > /dev/null 2>&1 &
who shell '/bin/sh /tmp/t08b/x.sh'
await '[ -e /proc/$shell/fd/0 ]'
finish $shell
#: clean
kill $server; rm -r /tmp/t08b
