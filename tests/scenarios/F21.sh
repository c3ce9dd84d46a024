# F21: long names and deep folders
# stage: shipped
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_index: 7
#   file_descriptor.file_descriptor_name: $path

#: prepare
name=$(printf 'n%.0s' {1..200}); deep=/tmp/f21$(printf '/folder%.0s' {1..40})
mkdir -p $deep; echo x > $deep/$name; fact path $deep/$name
#: act
act
(exec 7<$path; stay) & fact pid $!; seen; over $pid
#: clean
rm -r /tmp/f21
