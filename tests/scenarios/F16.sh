# F16: ten thousand open files
# stage: shipped
# expect: file_descriptor_open at least 990
#   process.process_id: $pid
#   file_descriptor.file_descriptor_name: /tmp/f16
# expect: events_summed_up at least 1
#   system_activity.activity: file_descriptor_open
#   process.process_id: $pid
# expect: file_descriptor_close at least 990
#   process.process_id: $pid
#   file_descriptor.file_descriptor_name: /tmp/f16
# expect: events_summed_up at least 1
#   system_activity.activity: file_descriptor_close
#   process.process_id: $pid
#
# A process may cause 1000 events of a kind in a second, a few of them about other files of the
# interpreter; the rest is summed up.

#: prepare
echo x > /tmp/f16
#: act
python3 -c '
import pace
print("@act", flush=True)
files = [open("/tmp/f16") for i in range(10000)]
pace.scanned()' & fact pid $!
wait $pid
#: clean
rm /tmp/f16
