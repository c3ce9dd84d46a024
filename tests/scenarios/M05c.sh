# M05c: twin: luajit compiles
# stage: equipped
# expect: process_terminated
#   process.process_id: $pid

#: act
act
(scanned; exec luajit -e '
local s = 0
for k = 1, 100 do
  local f = loadstring("local s = 0 for i = 1, 3000 do s = s + i % " .. k .. " end return s")
  s = s + f() + f()
end') & fact pid $!
wait $pid
