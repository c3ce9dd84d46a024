# A05t: twin: a process maps very many files as data
# stage: shipped
# expect: process_created
#   process.process_id: $pid
# expect: coverage_degraded x0
# allow: file_descriptor_file_content_change

#: act
. lib/covers.sh
many_files /tmp/a05t 3000 1
act
sleep 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm -r /tmp/a05t /tmp/a05t.ready
