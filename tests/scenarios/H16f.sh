# H16f: HISTSIZE is 0 as bash cuts it to 32 bits
# stage: behaviour
# expect: shell_history_cleared
#   process.process_id: $shell
#   detection.reason: ~(HISTSIZE=0)
# expect: shell_history_disabled
#   process.process_id: $shell
#   detection.reason: ~: HISTSIZE=0

#: prepare
. lib/terminal.sh
terminal; types 'echo first' 'echo second'
#: act
. lib/terminal.sh
act; types HISTSIZE=4294967296 true
#: clean
. lib/terminal.sh
leave
