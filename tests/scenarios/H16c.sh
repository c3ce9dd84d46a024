# H16c: HISTFILE is in a folder that does not exist
# stage: behaviour
# expect: shell_history_disabled
#   process.process_id: $shell
#   detection.reason: ~: HISTFILE=/tmp/typed/none/x
#   detection.confidence: medium
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: true
# expect: shell_command_executed x2

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act; types HISTFILE=/tmp/typed/none/x true
#: clean
. lib/terminal.sh
leave
