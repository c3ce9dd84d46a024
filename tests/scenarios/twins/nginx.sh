# nginx: nginx with scripts by CGI

#: prepare
mkdir -p /srv/nginx /var/log/nginx /var/lib/nginx
cat > /srv/nginx/conf <<'CONF'
user root;
daemon off;
events {}
http {
  access_log /var/log/nginx/access.log;
  server {
    listen 8082;
    root /srv/nginx;
    location /cgi/ {
      include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
      fastcgi_pass unix:/run/twin-cgi;
    }
  }
}
CONF
mkdir -p /srv/nginx/cgi
for program in /bin/sh '/usr/bin/perl' /usr/bin/python3; do
  name=/srv/nginx/cgi/${program##*/}
  printf '#!%s\n' $program > $name; chmod 755 $name
done
printf 'echo Content-Type: text/plain; echo; id -u | cat; sleep 0.2\n' >> /srv/nginx/cgi/sh
printf 'print "Content-Type: text/plain\\n\\n"; print `id -u; sleep 0.2`;' >> /srv/nginx/cgi/perl
printf 'import os\nprint("Content-Type: text/plain\\n", flush=True)\nos.system("id -u")\n' \
  >> /srv/nginx/cgi/python3
serve fcgiwrap -c 2 -s unix:/run/twin-cgi
serve nginx -c /srv/nginx/conf; port 8082
#: turn
for name in sh perl python3; do
  curl -sf --data hello http://127.0.0.1:8082/cgi/$name | grep -q 0
  curl -sf http://127.0.0.1:8082/conf > /dev/null
done
