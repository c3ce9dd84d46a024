# H17c: HISTIGNORE has a list that fits every other command
# stage: behaviour
# expect: shell_history_disabled
#   process.process_id: $shell
#   detection.reason: ~: HISTIGNORE fits nearly all
#   detection.confidence: medium
# expect: shell_command_executed x2

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act; types 'shopt -s extglob' "HISTIGNORE='!(exit)'" 'echo unseen'
#: clean
. lib/terminal.sh
leave
