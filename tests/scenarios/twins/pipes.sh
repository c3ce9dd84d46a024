# pipes: scripts that are fetched and piped into a shell; health checks by bash's own connections

#: turn
curl -sf http://127.0.0.1/script.txt | bash
busybox wget -q -O- http://127.0.0.1/script.txt | sh
bash -c 'exec 3<>/dev/tcp/127.0.0.1/80; printf "GET /script.txt HTTP/1.0\r\n\r\n" >&3
cat <&3 | grep -q "200 OK"'
mkfifo /tmp/twin-fifo 2>/dev/null || true; (cat /tmp/twin-fifo | sh > /dev/null) &
echo 'sleep 0.5' > /tmp/twin-fifo; wait
