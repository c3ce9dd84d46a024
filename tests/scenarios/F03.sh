# F03: twin: a running program is replaced by the same one
# stage: shipped
# expect: process_created
#   process.process_id: $new
# expect: process_terminated
#   process.process_id: $new
#   process.process_executable_path: /usr/bin/sleep
# expect: process_terminated
#   process.process_id: $old
#   process.process_executable_path: /usr/bin/sleep (deleted)
#
# A scan may find it before it has become its program.

#: prepare
cp -p /usr/bin/sleep /usr/bin/sleep.new
#: act
sleep 600 & fact old $!
await '[ /proc/$old/exe -ef /usr/bin/sleep ]'
act
mv /usr/bin/sleep.new /usr/bin/sleep
sleep 600 & fact new $!
await '[ /proc/$new/exe -ef /usr/bin/sleep ]'
seen 1; scanned; over $old $new
