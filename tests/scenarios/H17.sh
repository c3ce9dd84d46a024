# H17: HISTIGNORE has brackets that fit every command
# stage: behaviour
# expect: shell_history_disabled
#   process.process_id: $shell
#   detection.reason: ~: HISTIGNORE fits nearly all
#   detection.confidence: medium
# expect: shell_command_executed

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act; types 'HISTIGNORE="[[:print:]]*"' 'echo unseen'
#: clean
. lib/terminal.sh
leave
