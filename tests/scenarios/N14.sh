# N14: sockets of many kinds
# stage: behaviour
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_index: $first
#   file_descriptor.file_descriptor_file_type: SOCKET
# expect: file_descriptor_open
#   process.process_id: $pid
#   file_descriptor.file_descriptor_index: $last
#   file_descriptor.file_descriptor_file_type: SOCKET
# expect: file_descriptor_open at least 8
#   process.process_id: $pid
#   file_descriptor.file_descriptor_file_type: SOCKET
# expect: process_terminated
#   process.process_id: $pid

#: act
act
python3 -c 'import pace, socket
kinds = [(1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 1, 262), (2, 2, 0), (2, 3, 1), (10, 1, 0),
         (10, 1, 262), (16, 3, 0), (17, 3, 3), (38, 5, 0), (40, 1, 0), (44, 3, 0), (2, 1, 132),
         (2, 5, 132), (15, 3, 2), (29, 3, 1), (30, 1, 0), (43, 1, 0), (31, 3, 1)]
kept = []
for kind in kinds:
    try: kept.append(socket.socket(*kind))
    except OSError: pass
print("@fact last", kept[-1].fileno()); print("@fact first", kept[0].fileno(), flush=True)
pace.scanned()' & fact pid $!
wait $pid
