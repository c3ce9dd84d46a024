# tunnels: tunnels by ssh and socat, and a connection under TLS

#: prepare
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /srv/key.pem -out \
  /srv/cert.pem -subj /CN=a -days 30 2> /dev/null
serve openssl s_server -accept 7021 -key /srv/key.pem -cert /srv/cert.pem -www; port 7021
serve socat TCP-LISTEN:7022,fork,reuseaddr TCP:127.0.0.1:80; port 7022
#: turn
ssh -n -N -L 7023:127.0.0.1:80 root@127.0.0.1 & tunnel=$!
port 7023
for port in 7022 7023; do curl -sf http://127.0.0.1:$port/script.txt > /dev/null; done
kill $tunnel; wait $tunnel || true
curl -sfk https://127.0.0.1:7021/ > /dev/null
