# A17t: twin: a program of the system in a loop
# stage: shipped
# expect: process_created at least 20
#   process.process_executable_path: /usr/bin/sleep
# expect: foreign_binary_executed x0
# expect: alerts_summed_up x0

#: act
act
for _ in {1..30}; do sleep 0.2; done
scanned
