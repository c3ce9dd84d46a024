# When a script acts, by the guest's own clock.
trace=/sys/kernel/tracing; synced=0
[ ! -w $trace/trace ] || : > $trace/trace
sync_some() {
  local end=$((synced + 8))
  while ((synced < end)); do
    synced=$((synced + 1))
    [ ! -w $trace/trace_marker ] || echo "sync $synced" > $trace/trace_marker
    echo "@sync $synced"
  done
}
act() { sync_some; echo @act; }
trap 'ended=$?; sync_some; end_all $ended' EXIT
