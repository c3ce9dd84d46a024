# H03: history -c
# stage: behaviour
# expect: shell_history_cleared
#   process.process_id: $shell
#   detection.reason: ~(history -c)
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: true

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act; types 'history -c' true
#: clean
. lib/terminal.sh
leave
