# T11: twin: terminals without a connection
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell
# expect: process_terminated
#   process.process_id: $second

#: act
. lib/logins.sh
act
(hold; echo exit) | script -qc 'bash --norc -i' /dev/null > /dev/null 2>&1 &
who shell 'bash --norc -i'
expect -c 'spawn bash --norc
while {[file exists $env(hold)]} {sleep 0.1}; send "exit\r"; expect eof' \
  < /dev/null > /dev/null 2>&1 &
who second 'bash --norc'
await 'at $shell 0 /dev/pts/* && at $second 0 /dev/pts/*'
finish $shell; gone $second
