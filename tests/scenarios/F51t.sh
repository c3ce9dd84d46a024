# F51t: twin: a set-uid program that dpkg installs is no alert
# stage: upgraded
# expect: package_files_changed at least 1
#   package.package_program: /usr/bin/dpkg
# expect: file_permissions_changed x0
# expect: file_content_change x0
# expect: file_descriptor_file_content_change x0

#: prepare
mkdir -p /f51t/DEBIAN /f51t/usr/lib/f51t; cp /bin/true /f51t/usr/lib/f51t/helper
chmod 4755 /f51t/usr/lib/f51t/helper
printf 'Package: f51t\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n' \
  > /f51t/DEBIAN/control
dpkg-deb --build /f51t /f51t.deb > /dev/null
sleep 4
#: act
act
dpkg -i /f51t.deb; sleep 4
#: clean
dpkg -P f51t; rm -r /f51t /f51t.deb
sleep 2
