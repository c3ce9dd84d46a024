# H19b: readline.clear_history
# stage: behaviour
# expect: shell_history_cleared
#   process.process_id: $shell
#   detection.reason: ~(readline.clear_history)
#   detection.confidence: medium
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: c = 3
# expect: shell_command_executed at least 2

#: prepare
. lib/terminal.sh
terminal python3 -i -c 'import sys; sys.ps1 = sys.ps2 = "@ready@"'; types 'a = 1' 'b = 2'
#: act
. lib/terminal.sh
act
types 'import readline' 'readline.clear_history()' 'c = 3'
#: clean
. lib/terminal.sh
leave 'exit()'
