# What attacks hide behind. Their twins use it too, in harmless amounts.
#
# Each makes FILE, FOLDER.ready, FIFO.ready or BASE.ready when it is ready, or sets facts: $hog is
# its process, $pid the one that acts.
#
# many_descriptors COUNT FILE             a user's process has so many descriptors
# swap_tables ROUNDS HELD PAUSE PROGRAM   $pid replaces its descriptor table, so often or (-1)
#                                         without end, while a thread holds the one before; it runs
#                                         a Python program first
# user_scope NAME                         $group: a control group of a user, named like a container
# in_scope PROGRAM ARGUMENTS...           starts $pid there, in namespaces of its own
# long_names FOLDER                       opens 4000 files with very long names below a folder
# many_files FOLDER COUNT PROTECTION      maps so many files, as large as a shipped program:
#                                         1 to read them, 5 to execute them, too
# many_processes COUNT MARK FILE          a user's $crowd of `sleep MARK`
# many_connections PAIRS PORT FILE        a user's $hog has so many connections with itself
# churn PROGRAM                           $pid maps and unmaps without end beside a Python program
# crowded_pipe FIFO                       500 shells read what one process can write to 97,000 times
# close_files BASE COUNT [READ]           closes changed files below BASE, or one that it has only
#                                         read, when BASE.go is there
# while_lost NAME PROGRAM ARGUMENTS...     starts it when process 1 begins anew; /run/NAME has its
#                                         process id
# many_areas COUNT CHILDREN MARK FILE     a user's processes have so many areas each
libc='
import ctypes, mmap, os, sys, threading, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
'
as_user='setpriv --reuid=1000 --regid=1000 --clear-groups'
many_descriptors() {
  prlimit --nofile=200000:200000 --pid $$
  $as_user python3 -c '
import os, sys, time
for _ in range(int(sys.argv[1])): os.dup(0)
print("x", flush=True)
time.sleep(6000)' $1 < /dev/null > $2 2> /dev/null & fact hog $!; disown
  await "[ -s $2 ]"; scanned
}
swap_tables() {
  python3 -c "$libc"'
CLONE_FILES = 0x400
rounds, held, pause = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
exec(sys.argv[4])
# A new thread shares the present table, which thus outlives the call that replaces it.
while rounds != 0:
    threading.Thread(target=time.sleep, args=(held,), daemon=True).start()
    libc.unshare(CLONE_FILES)
    if pause > 0: time.sleep(pause)
    rounds -= 1' "$@" < /dev/null > /dev/null 2>&1 & fact pid $!
}
user_scope() {
  local service=/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service
  fact group "$service/app.slice/docker-$(echo $1 | sha256sum | cut -c1-64).scope"
  mkdir -p $group; chown -R 1000 $service
}
in_scope() {
  (echo 0 > $group/cgroup.procs
   exec $as_user unshare --user --map-root-user --mount --uts "$@") & fact pid $!
}
long_names() {
  python3 -c '
import os, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
os.mkdir(sys.argv[1]); os.chdir(sys.argv[1])
for level in range(18):
    name = chr(97 + level) * 200
    os.mkdir(name); os.chdir(name)
files = [os.open("%d-" % n + "n" * 200, os.O_CREAT | os.O_RDWR) for n in range(4000)]
open(sys.argv[1] + ".ready", "w").close()
time.sleep(6000)' $1 < /dev/null > /dev/null 2>&1 & fact hog $!; disown
  await "[ -e $1.ready ]"; scanned
}
many_files() {
  python3 -c "$libc"'
folder, count, protection = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
size = os.stat("/usr/bin/true").st_size
os.mkdir(folder)
for n in range(count):
    fd = os.open("%s/%d" % (folder, n), os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, size)
    libc.mmap(None, 4096, protection, mmap.MAP_PRIVATE, fd, 0)
    os.close(fd)
open(folder + ".ready", "w").close()
time.sleep(6000)' "$@" < /dev/null > /dev/null 2>&1 & fact hog $!; disown
  for _ in 1 2 3; do await "[ -e $1.ready ]" && break; done; scanned
}
many_processes() {
  $as_user python3 -c '
import os, resource, sys, time
resource.setrlimit(resource.RLIMIT_NPROC, (16384, 16384))
for n in range(int(sys.argv[1])):
    os.posix_spawn("/bin/busybox", ["sleep", sys.argv[2]], os.environ, setpgroup=0)
print("x", flush=True)
time.sleep(6000)' $1 $2 < /dev/null > $3 2> /dev/null & fact crowd $!; disown
  for _ in 1 2 3 4 5; do await "[ -s $3 ]" && break; done
  [ -s $3 ]; scanned
}
many_connections() {
  prlimit --nofile=200000:200000 --pid $$
  $as_user python3 -c '
import socket, sys, time
pairs, port = int(sys.argv[1]), int(sys.argv[2])
server, held = socket.create_server(("", port), backlog=4096), []
for n in range(pairs):
    client = socket.create_connection(("127.0.0.%d" % (2 + n // 16000), port))
    held += [client, server.accept()[0]]
print("x", flush=True)
time.sleep(6000)' $1 $2 < /dev/null > $3 2> /dev/null & fact hog $!; disown
  for _ in 1 2 3 4 5; do await "[ -s $3 ]" && break; done
  [ -s $3 ]; scanned
}
churn() {
  python3 -c "$libc"'
def churn():
    while True:
        libc.munmap(libc.mmap(None, 8192, 1, anonymous, -1, 0), 8192)
threading.Thread(target=churn, daemon=True).start()
exec(sys.argv[1])
time.sleep(600)' "$1" & fact pid $!
}
crowded_pipe() {
  mkfifo $1
  for _ in $(seq 500); do sh < $1 > /dev/null 2>&1 & done
  python3 -c '
import os, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (120000, 120000))
writer = os.open(sys.argv[1], os.O_WRONLY)
for _ in range(1000): os.pipe()
for _ in range(97000): os.dup(writer)
open(sys.argv[1] + ".ready", "w").close()
time.sleep(6000)' $1 < /dev/null > /dev/null 2>&1 & fact hog $!; disown
  await "[ -e $1.ready ]"; scanned
}
close_files() {
  python3 -c '
import os, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
base, count, *read = sys.argv[1:]
if read:
    files = [os.open(read[0], os.O_RDONLY) for n in range(int(count))]
else:
    os.mkdir(base)
    files = [os.open("%s/%d" % (base, n), os.O_CREAT | os.O_RDWR) for n in range(int(count))]
open(base + ".ready", "w").close()
while not os.path.exists(base + ".go"): time.sleep(0.001)
if not read:
    for file in files: os.write(file, b"x")
for file in files: os.close(file)
time.sleep(6000)' "$@" < /dev/null > /dev/null 2>&1 & fact hog $!; disown
  await "[ -e $1.ready ]"; scanned
}
many_areas() {
  $as_user python3 -c "$libc"'
for n in range(int(sys.argv[1])): libc.mmap(None, 4096, 1 + 2 * (n % 2), anonymous, -1, 0)
for _ in range(int(sys.argv[2])):
    if os.fork() == 0: break
else: print("x", flush=True)
time.sleep(6000)' $1 $2 $3 < /dev/null > $4 2> /dev/null & disown
  await "[ -s $4 ]"; scanned
}
while_lost() {
  local begin
  begin=$(cut -d' ' -f22 /proc/1/stat)
  (until [ "$(cut -d' ' -f22 /proc/1/stat)" != $begin ]; do
     read -t 0.01 <> /run/pace/never || :
   done
   "${@:2}" & echo $! > /run/$1) < /dev/null > /dev/null 2>&1 & disown
}
