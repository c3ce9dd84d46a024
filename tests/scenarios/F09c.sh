# F09c: twin: what dpkg writes is an event of it, and no alert
# stage: upgraded
# expect: package_files_changed at least 1
#   package.package_program: /usr/bin/dpkg
#   process.process_name: dpkg
# expect: file_descriptor_file_content_change x0

#: act
act
dpkg -i /opt/zlib1g-newer.deb /opt/libc6-newer.deb; scanned
#: clean
dpkg -i /opt/zlib1g-older.deb /opt/libc6-older.deb 2>&1
