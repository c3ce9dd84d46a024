# A11: a file is changed while another process closes 6000 changed files
# stage: behaviour
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/a11.kept
#   process.process_id: $pid
# allow: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: ~/etc/a11/
# allow: file_content_change
#   file.file_path: ~/etc/a11/
# allow: alerts_summed_up
#   system_activity.paths: ~/etc/a11/
#
# Beyond its share, the noise is counted: coverage_degraded names its process. The paths show what
# it wrote.

#: prepare
. lib/covers.sh
echo before > /etc/a11.kept
close_files /etc/a11 6000
#: act
exec 7<> /etc/a11.kept; fact pid $$; scanned
act
echo after >&7; : > /etc/a11.go; exec 7>&-
seen
#: clean
kill $hog; rm -r /etc/a11 /etc/a11.ready /etc/a11.go /etc/a11.kept
