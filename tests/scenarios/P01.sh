# P01: a program is started, and ends
# stage: behaviour
# expect: process_created
#   process.process_id: $pid
# expect: process_terminated
#   process.process_id: $pid
#   process.process_parent_process_id: $parent
#   process.process_name: sleep
#   process.process_executable_path: /usr/bin/sleep
#   process.process_command_line_arguments: sleep 600.61
#   process.process_current_working_directory: /tmp
#   process.process_real_user_id: 0
#   process.process_effective_user_id: 0

#: act
act
(cd /tmp; exec sleep 600.61) & fact pid $!; fact parent $$
runs $pid sleep; scanned; over $pid
