# A05: a foreign program starts when a process has mapped very many files executable
# stage: shipped
# expect: foreign_binary_executed
#   elf_file.elf_file_path: /opt/stranger
#   process.process_id: $pid
# allow: foreign_library_loaded
#   process.process_id: $hog
# allow: coverage_degraded
#   system_activity.process_id: $hog
# allow: file_descriptor_file_content_change
#
# The files are as large as a shipped one, so they wait to be hashed. The last alerts about them
# follow within a second.

#: act
. lib/covers.sh
many_files /tmp/a05 33000 5
act
/opt/stranger 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm -r /tmp/a05 /tmp/a05.ready; sleep 2
