# M05h: twin: gjs compiles
# stage: equipped
# expect: process_terminated
#   process.process_id: $pid

#: act
act
(scanned; exec gjs -c '
for (let k = 0; k < 40; k++) {
  const body = "let s = 0; for (let i = 0; i < n; i++) s += i * " + k + " % 7; return s"
  const f = new Function("n", body)
  for (let r = 0; r < 30; r++) f(3000)
}
imports.system.exit(0)') & fact pid $!
wait $pid
