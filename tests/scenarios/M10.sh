# M10: twin: areas come, go, grow, split and merge
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid

#: act
/opt/memory churn # says @act
