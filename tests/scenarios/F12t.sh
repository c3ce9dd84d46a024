# F12t: twins: closed after reading, or unchanged; pipes, terminals, modes
# stage: shipped
# expect: file_descriptor_close x3
#   file_descriptor.file_descriptor_name: /etc/f12t
#   file_descriptor.file_descriptor_index: 7
# expect: file_descriptor_open
#   process.process_id: $terminal
#   file_descriptor.file_descriptor_index: 7

#: prepare
echo same > /etc/f12t
#: act
act
(exec 7</etc/f12t; read line <&7; scanned; exec 7<&-; scanned) & fact reader $!
(exec 7<>/etc/f12t; scanned; exec 7<&-; scanned) & fact idle $!
(exec 7<>/etc/f12t; chmod 600 /etc/f12t; scanned; exec 7<&-; scanned) & fact mode $!
(exec 7<>/dev/ptmx; echo x >&7; scanned) & fact terminal $!
{ (echo x; scanned >&8) | (exec 7<&0; read line <&7; scanned); } 8>&1 & fact pipe $!
wait
#: clean
rm /etc/f12t
