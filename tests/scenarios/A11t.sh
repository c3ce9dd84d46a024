# A11t: twin: a process closes 3000 files that it has only read
# stage: shipped
# expect: process_created
#   process.process_id: $pid
# expect: coverage_degraded x0
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /tmp/a11t.ready

#: prepare
. lib/covers.sh
close_files /tmp/a11t 3000 /etc/passwd
#: act
act
: > /tmp/a11t.go
sleep 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm /tmp/a11t.ready /tmp/a11t.go
