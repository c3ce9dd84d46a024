# H20c: zsh's HISTFILE is a device that keeps nothing
# stage: equipped
# expect: shell_history_disabled
#   process.process_id: $shell
#   detection.reason: ~: HISTFILE=/dev/null
#   detection.confidence: high
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: true
# expect: shell_command_executed x2

#: prepare
. lib/terminal.sh
terminal zsh -f -o no_zle
types 'HISTFILE=/tmp/typed/.zsh_history HISTSIZE=100 SAVEHIST=100' 'echo first'
#: act
. lib/terminal.sh
act; types HISTFILE=/dev/null true
#: clean
. lib/terminal.sh
leave
