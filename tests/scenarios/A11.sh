# A11: a file is changed while another process closes 6000 changed files
# stage: behaviour
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /tmp/a11.kept
#   process.process_id: $pid
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: ~/tmp/a11/
#
# Beyond its share, the noise is counted: coverage_degraded names its process.

#: prepare
. lib/covers.sh
echo before > /tmp/a11.kept
close_files /tmp/a11 6000
#: act
exec 7<> /tmp/a11.kept; fact pid $$; scanned
act
echo after >&7; : > /tmp/a11.go; exec 7>&-
seen
#: clean
kill $hog; rm -r /tmp/a11 /tmp/a11.ready /tmp/a11.go /tmp/a11.kept
