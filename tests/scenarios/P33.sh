# P33: a shell that becomes another program
# stage: behaviour
# expect: process_created
#   process.process_id: $pid
#   process.process_executable_path: /usr/bin/bash
# expect: process_executed
#   process.process_id: $pid
#   process.process_executable_path: /usr/bin/sleep
#   process.process_command_line_arguments: sleep 600.33
#   process.process_parent_process_id: $parent
#   process_executed.process_previous_executable_path: /usr/bin/bash
# expect: process_terminated
#   process.process_id: $pid
#   process.process_executable_path: /usr/bin/sleep

#: act
bash -c 'sleep 2; exec sleep 600.33' & pid=$!; fact pid $pid; fact parent $$
act
runs $pid sleep; scanned; over $pid
