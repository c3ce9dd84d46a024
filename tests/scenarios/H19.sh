# H19: lines are typed into python's prompt
# stage: behaviour
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: import os
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: for i in range(2):
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: ~print(i)
# expect: shell_command_executed x3

#: prepare
. lib/terminal.sh
terminal python3 -i -c 'import sys; sys.ps1 = sys.ps2 = "@ready@"'; types 'a = 1' 'b = 2'
#: act
. lib/terminal.sh
act
types 'import os' 'for i in range(2):' '  print(i)' ''
#: clean
. lib/terminal.sh
leave 'exit()'
