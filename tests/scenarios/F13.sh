# F13: twin: a log that grows and is never closed
# stage: shipped
# expect: file_descriptor_open
#   process.process_id: $mark
#   file_descriptor.file_descriptor_index: 8
#   file_descriptor.file_descriptor_name: /etc/hostname

#: prepare
(exec 7>>/tmp/f13; while sleep 0.4; do echo line >&7; done) >/dev/null 2>&1 & fact pid $!
kept $pid; await '[ -s /tmp/f13 ]'
#: act
act
size=$(stat -c %s /tmp/f13); scanned; await '[ $(stat -c %s /tmp/f13) -gt $size ]'
(exec 8</etc/hostname; stay) & fact mark $!; seen; over $mark
#: clean
rm /tmp/f13
