# F53t: twins: ambient capabilities, a daemon that keeps its own, a user namespace, a packaged ping
# stage: equipped
# expect: process_terminated at least 1
#   process.process_name: f53t-ambient
# expect: process_terminated at least 1
#   process.process_name: f53t-daemon
# expect: process_terminated at least 1
#   process.process_name: ping
# expect: file_permissions_changed x0

#: prepare
mkdir -p /usr/local/bin
cp /bin/sleep /usr/local/bin/f53t-ambient
cp /usr/bin/python3.11 /usr/local/bin/f53t-daemon
[ ! -e /usr/bin/ping ] || mv /usr/bin/ping /usr/bin/ping.f53t
cp /bin/sleep /usr/bin/ping
python3 -c 'import os, struct
capabilities = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
os.setxattr("/usr/bin/ping", "security.capability", capabilities)'
sleep 4
#: act
act
setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=+net_raw --ambient-caps=+net_raw \
  /usr/local/bin/f53t-ambient 4
/usr/local/bin/f53t-daemon -c 'import ctypes, os, time
# PR_SET_KEEPCAPS (linux/prctl.h)
ctypes.CDLL(None).prctl(8, 1, 0, 0, 0)
os.setresgid(1000, 1000, 1000)
os.setresuid(1000, 1000, 1000)
time.sleep(4)'
setpriv --reuid=1000 --regid=1000 --clear-groups bash -c 'ping 4; true'
unshare --user --map-root-user sleep 4 || true
#: clean
rm /usr/bin/ping /usr/local/bin/f53t-ambient /usr/local/bin/f53t-daemon
[ ! -e /usr/bin/ping.f53t ] || mv /usr/bin/ping.f53t /usr/bin/ping
