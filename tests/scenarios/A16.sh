# A16: each process loads a foreign library from now on, by the loader's file
# stage: shipped
# expect: file_descriptor_file_content_change
#   file_descriptor.file_descriptor_name: /etc/ld.so.preload
#   process.process_id: $writer
# expect: foreign_library_loaded x8
#   elf_file.elf_file_path: /tmp/a16.so
#   elf_file.elf_file_hash_sha256: $sha256
# expect: alerts_summed_up at least 1
#   record.severity: HIGH
#   system_activity.activity: foreign_library_loaded
# allow: foreign_library_loaded
#   elf_file.elf_file_path: ~a16.so (deleted)
# allow: alerts_summed_up
#
# Eight alerts are in full, and a minute later a sum has the number of the others. The processes
# come for half a minute: the sum comes within the time that `seen` waits.

#: prepare
cp /opt/stranger.so /tmp/a16.so
fact sha256 "$(sha256sum < /tmp/a16.so | cut -d' ' -f1)"
#: act
(exec 7>/etc/ld.so.preload; scanned; echo /tmp/a16.so >&7; act) & fact writer $!
wait $writer
for _ in {1..60}; do sleep 0.5; done
rm /etc/ld.so.preload
seen
#: clean
rm -f /etc/ld.so.preload /tmp/a16.so
