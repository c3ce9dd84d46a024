# H03b: history -d takes a command out
# stage: behaviour
# expect: shell_history_cleared
#   process.process_id: $shell
#   detection.reason: ~(history -d)
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: history -d 1
# expect: shell_command_executed

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act; types 'history -d 1'
#: clean
. lib/terminal.sh
leave
