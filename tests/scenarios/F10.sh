# F10: twin: scripts that were not shipped
# stage: shipped
# expect: process_terminated
#   process.process_id: $shell
#   process.process_executable_path: /usr/bin/bash
#   process.process_command_line_arguments: /bin/bash /tmp/f10.sh
# expect: process_terminated
#   process.process_id: $python
#   process.process_executable_path: /usr/bin/python3.11
#   process.process_command_line_arguments: python3 /tmp/f10.py

#: prepare
printf '#!/bin/bash\nread -r _ <> /run/pace/never\n' > /tmp/f10.sh; chmod 755 /tmp/f10.sh
printf 'import time\ntime.sleep(600)\n' > /tmp/f10.py
#: act
act
/tmp/f10.sh & fact shell $!
python3 /tmp/f10.py & fact python $!
await '[ /proc/$python/exe -ef /usr/bin/python3 ] && begins $shell /bin/bash'
scanned; over $shell $python
#: clean
rm /tmp/f10.sh /tmp/f10.py
