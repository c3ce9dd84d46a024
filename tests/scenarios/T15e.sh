# T15e: twin: forty health checks that read a line themselves
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
answer 4523 40
#: act
. lib/logins.sh
act
for i in {1..40}; do
  bash -c 'exec 3<>/dev/tcp/127.0.0.1/4523; printf "GET / HTTP/1.0\r\n\r\n" >&3
read -r line <&3; [[ $line = *UP* ]]' < /dev/null > /dev/null 2>&1
done
sleep 600 & fact shell $!; scanned; over $shell
