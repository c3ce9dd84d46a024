# M05b: twin: java compiles
# stage: equipped
# expect: process_terminated
#   process.process_id: $pid
# expect: new_executable_anonymous_memory_mapped at least 1
#   process.process_id: $pid
#   process_memory.memory_permissions: rwxp
#
# A copy, so that nothing is known of its library yet.

#: act
act
# It may end before a slow watcher finds its code: then there is another one.
until ((SECONDS > 60)); do
  (scanned; exec java -Xcomp -version > /dev/null 2>&1) & fact pid $!
  wait $pid; scanned
  if come; then break; fi
done
