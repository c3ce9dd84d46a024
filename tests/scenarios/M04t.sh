# M04t: twin: a program that asks for an executable stack
# stage: behaviour
# expect: new_executable_anonymous_memory_mapped
#   process.process_id: $pid
#   process_memory.memory_name: [stack]
#   process_memory.memory_permissions: rwxp
# expect: process_terminated
#   process.process_id: $pid

#: act
/opt/memory-execstack stay # says @act
