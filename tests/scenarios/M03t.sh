# M03t: twin: a library whose text the loader relocates
# stage: behaviour
# expect: process_terminated
#   process.process_id: $pid

#: act
/opt/memory libraries /opt/relocated.so # says @act
