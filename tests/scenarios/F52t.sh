# F52t: twins: a program in /tmp without set-uid, and a set-uid one of the system, are run by a user
# stage: behaviour
# expect: process_terminated at least 1
#   process.process_name: .f52t
# expect: file_permissions_changed x0

#: prepare
cp /bin/bash /tmp/.f52t; chmod 755 /tmp/.f52t
#: act
act
setpriv --reuid=1000 --regid=1000 --clear-groups /tmp/.f52t -c 'sleep 4; :' & wait $!
[ ! -x /bin/mount ] || setpriv --reuid=1000 --regid=1000 --clear-groups mount > /dev/null
#: clean
rm /tmp/.f52t
