# H20d: twin: a function has a list of its own, and zsh ignores some commands
# stage: equipped
# expect: shell_command_executed
#   process.process_id: $shell
#   shell_history.shell_command_execution_history.0.command_line: echo end
# expect: shell_command_executed x7

#: prepare
. lib/terminal.sh
terminal zsh -f -o no_zle
types 'HISTFILE=/tmp/typed/.zsh_history HISTSIZE=100 SAVEHIST=100' 'echo first'
#: act
. lib/terminal.sh
act
types 'f() { fc -ap; HISTSIZE=5; sleep 0.3 }' f 'setopt hist_ignore_space hist_ignore_dups'
types ' echo spaced' 'HISTORY_IGNORE="(ls|cd *)"' HISTSIZE=1000 'echo end'
#: clean
. lib/terminal.sh
leave
