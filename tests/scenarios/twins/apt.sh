# apt: a package is upgraded by apt and downgraded by dpkg while its program runs

#: prepare
mkdir -p /srv/apt /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt \
  /etc/apt/preferences.d; cd /srv/apt
cp /opt/twin-*.deb .
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
dpkg --install /srv/apt/twin-1.0.deb
apt-get -qq --yes --allow-downgrades install twin=1.0
LD_PRELOAD=/usr/lib/libtwin.so twin 300 & running=$!
apt-get -qq --yes install twin=2.0
grep -q 'twin.*(deleted)' /proc/$running/maps; kill $running
dpkg --status twin | grep -q 'Version: 2.0'
dpkg --verify twin; dpkg --listfiles twin | grep -q /usr/bin/twin
