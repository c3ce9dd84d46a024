# agents: agents that fetch jobs by a connection of their own and run their scripts

#: prepare
cat > /srv/jobs.py <<'PYTHON'
import socket, threading
server = socket.create_server(("", 7010))
def job(connection):
    connection.sendall(b"echo one; sleep 1; id -u; echo two\n")
    while connection.recv(4096): pass
while True:
    threading.Thread(target=job, args=(server.accept()[0],)).start()
PYTHON
cat > /srv/agent.py <<'PYTHON'
import socket, subprocess
connection = socket.create_connection(("127.0.0.1", 7010))
script = connection.recv(4096)
open("/tmp/job.sh", "wb").write(script)
for words, given in [(["bash", "-e", "/tmp/job.sh"], None), (["bash"], script),
                     (["sh", "-c", script.decode()], None)]:
    job = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
    if given: job.stdin.write(given)
    job.stdin.close()
    said = job.stdout.read()
    connection.sendall(said)
    assert b"two" in said and job.wait() == 0
PYTHON
serve python3 /srv/jobs.py; port 7010
#: turn
python3 /srv/agent.py
