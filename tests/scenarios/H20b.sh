# H20b: zsh's list of commands is put aside
# stage: equipped
# expect: shell_history_cleared
#   process.process_id: $shell
#   detection.reason: ~(fc -p)
#   detection.confidence: medium
# expect: shell_history_disabled
#   process.process_id: $shell
#   detection.reason: ~HISTFILE is unset or empty
#   detection.confidence: high
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: true

#: prepare
. lib/terminal.sh
terminal zsh -f -o no_zle
types 'HISTFILE=/tmp/typed/.zsh_history HISTSIZE=100 SAVEHIST=100' 'echo first'
#: act
. lib/terminal.sh
act; types 'fc -p' true
#: clean
. lib/terminal.sh
leave
