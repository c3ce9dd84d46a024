# storm: many processes that end at once; threads; a login to another user

#: turn
for i in {1..150}; do /bin/true; done
(for i in {1..50}; do /bin/busybox true & done; wait)
setpriv --reuid 1000 --regid 1000 --clear-groups bash -c 'ls / > /dev/null; sleep 0.2; id -u' |
  grep -q 1000
runuser -u user -- bash -c 'sleep 0.2; id -u' | grep -q 1000
python3 -c 'import threading, time
threads = [threading.Thread(target=time.sleep, args=(0.5,)) for _ in range(30)]
for thread in threads: thread.start()
for thread in threads: thread.join()'
