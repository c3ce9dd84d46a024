"""The words of pace.sh for Python."""
import os, sys
def ask(*words):
    sys.stdout.flush()
    path = "/run/pace/%d" % os.getpid()
    if not os.path.exists(path): os.mkfifo(path)
    fifo = os.open(path, os.O_RDWR)
    values = "".join("\t%s" % word for word in words[1:])
    os.write(1, ("@%s %d%s\n" % (words[0], os.getpid(), values)).encode())
    answer = os.read(fifo, 100)
    os.close(fifo)
    assert answer == b"yes\n", "never " + " ".join(words)
def scanned(): ask("scanned")
def seen(*words): ask("seen", *words)
def lacks(*words): ask("lacks", *words)
