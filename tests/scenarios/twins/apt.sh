# apt: a package is upgraded and downgraded by apt while its program runs

#: prepare
mkdir -p /srv/apt /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt \
  /etc/apt/preferences.d; cd /srv/apt
for version in 1.0 2.0; do
  mkdir -p p/DEBIAN p/usr/bin p/usr/lib
  cp /usr/bin/sleep p/usr/bin/twin; echo $version >> p/usr/bin/twin
  cp "$(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1)" p/usr/lib/libtwin.so
  echo $version >> p/usr/lib/libtwin.so
  printf 'Package: twin\nVersion: %s\nArchitecture: amd64\n' $version > p/DEBIAN/control
  printf 'Maintainer: nobody <nobody@example.org>\nDescription: a twin\n' >> p/DEBIAN/control
  printf '#!/bin/sh\nset -e\n/sbin/ldconfig\n' > p/DEBIAN/postinst; chmod 755 p/DEBIAN/postinst
  dpkg-deb --root-owner-group -Znone --build p twin-$version.deb > /dev/null; rm -r p
done
for deb in *.deb; do
  dpkg-deb --field $deb; printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' $deb \
    "$(stat -c %s $deb)" "$(sha256sum < $deb | cut -d' ' -f1)"
done > Packages
printf 'Origin: twins\nSHA256:\n %s %s Packages\n' "$(sha256sum < Packages | cut -d' ' -f1)" \
  "$(stat -c %s Packages)" > Release
echo 'deb [trusted=yes] file:/srv/apt ./' > /etc/apt/sources.list.d/twins.list
echo 'APT::Sandbox::User "root";' > /etc/apt/apt.conf.d/99twins
#: turn
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq --yes --allow-downgrades install twin=1.0
LD_PRELOAD=/usr/lib/libtwin.so twin 300 & running=$!
apt-get -qq --yes install twin=2.0
grep -q 'twin.*(deleted)' /proc/$running/maps; kill $running
dpkg --status twin | grep -q 'Version: 2.0'
