# H05: set +o history
# stage: behaviour
# expect: shell_history_disabled
#   process.process_id: $shell
#   detection.reason: ~: set +o history
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: set +o history
# expect: shell_command_executed

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act; types 'set +o history' 'echo unseen'
#: clean
. lib/terminal.sh
leave
