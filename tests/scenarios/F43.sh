# F43: one program changes twenty files in /etc, and one of those that decide who may enter
# stage: shipped
# expect: file_descriptor_file_content_change x8
#   file_descriptor.file_descriptor_name: ~/etc/f43/
#   process.process_id: $writer
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/pam.d/f43
#   process.process_id: $writer
# expect: alerts_summed_up
#   system_activity.activity: file_descriptor_file_content_change
#   system_activity.count: 12
#   system_activity.paths.length: 12
#   system_activity.paths: ~/etc/f43/
#
# Eight alerts are in full, and a minute later a sum has the paths of the others.

#: prepare
mkdir -p /etc/pam.d /f43
for number in {1..20}; do echo before > /f43/$number; done
# Another program: what bash writes here would be the same cause.
cp -r /f43 /etc/f43; cp /f43/1 /etc/pam.d/f43; sleep 4
#: act
(for number in {1..20}; do exec {file}>> /etc/f43/$number; open="${open:-} $file"; done
exec {other}>> /etc/pam.d/f43; scanned; act
for file in $open $other; do echo after >&$file; done; scanned
for file in $open $other; do exec {file}>&-; done) & fact writer $!
wait $writer
sleep 35
seen
#: clean
rm -r /f43 /etc/f43 /etc/pam.d/f43
