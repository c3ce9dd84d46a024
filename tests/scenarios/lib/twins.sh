# What all scripts of twins begin with, beside what scripts of scenarios do.
port() { await "grep -q ':$(printf %04X $1) 0*:0000 0A' /proc/net/tcp /proc/net/tcp6"; }
serve() { "$@" < /dev/null > /dev/null 2>&1 & }
