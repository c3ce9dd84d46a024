# F16: ten thousand open files
# stage: shipped
# expect: file_descriptor_open x10000
#   process.process_id: $pid
#   file_descriptor.file_descriptor_name: /tmp/f16
# expect: file_descriptor_close x10000
#   process.process_id: $pid
#   file_descriptor.file_descriptor_name: /tmp/f16

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
