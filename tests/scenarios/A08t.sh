# A08t: twin: a program of the system starts while contact is lost
# stage: shipped
# host: postpone 1 1000
# expect: process_created
#   process.process_id: $pid
#   process.process_began_while_not_watched: true
# expect: coverage_degraded x0

#: prepare
. lib/covers.sh
while_lost a08t sleep 600
#: act
act
await '[ -s /run/a08t ]'; fact pid "$(cat /run/a08t)"; seen; scanned; over $pid
#: clean
rm /run/a08t
