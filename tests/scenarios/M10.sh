# M10: twin: areas are mapped, unmapped, grown, split and merged
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid

#: act
/opt/memory churn # says @act
