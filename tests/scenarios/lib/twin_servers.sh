# Servers that several twins use; ready before any of them.
mkdir -p /run/sshd /root/.ssh /srv/web; chmod 700 /root /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
printf 'Host *\nStrictHostKeyChecking no\nLogLevel ERROR\n' > /root/.ssh/config
echo 'Subsystem sftp /usr/lib/openssh/sftp-server' > /etc/ssh/sshd_config
/usr/sbin/sshd -o UsePAM=yes -o PermitRootLogin=yes -o MaxStartups=100 -E /var/log/sshd.log; port 22
cat > /srv/web/conf <<'CONF'
server.modules = ("mod_cgi")
server.document-root = "/srv/web"
server.port = 80
cgi.assign = (".sh" => "/bin/sh", ".pl" => "/usr/bin/perl", ".py" => "/usr/bin/python3",
              ".bin" => "")
CONF
cat > /srv/web/a.sh <<'SCRIPT'
echo Content-Type: text/plain
echo
read line || true
for i in 1 2 3; do echo $i | cat; sleep 0.1; done
SCRIPT
printf 'print "Content-Type: text/plain\\n\\n"; print `sh -c "sleep 0.2; id -u"`;' > /srv/web/b.pl
cat > /srv/web/c.py <<'SCRIPT'
import subprocess
print("Content-Type: text/plain\n", flush=True)
subprocess.run(["sh", "-c", "id -u"])
SCRIPT
printf '#!/bin/bash\nprintf "Content-Type: text/plain\\n\\n"; cat\n' > /srv/web/d.bin
chmod 755 /srv/web/d.bin
printf 'sleep 0.5\nid -u > /dev/null\n' > /srv/web/script.txt
serve lighttpd -D -f /srv/web/conf; port 80
