# interpreters: interpreters and the code they compile at run time

#: prepare
seq 20000 > /srv/numbers
#: turn
luajit -e 'local s = 0; for i = 1, 2e6 do s = s + i % 7 end; print(s)'
for i in {1..20}; do grep -cP '^(?:1|22)+\d(?=5)' /srv/numbers; done | tail -n 1 | grep -q '[0-9]'
php -d opcache.enable_cli=1 -r '$s = 0;
for ($i = 0; $i < 200000; $i++) $s += preg_match("/^1\d+5$/", (string) $i);
echo shell_exec("id -u");' | grep -q 0
perl -e 'my $s = 0; $s += $_ =~ /^1\d+5$/ for 1..100000; print `id -u`;' | grep -q 0
ruby -e 's = (1..100000).sum; puts s, `id -u`' | grep -q 0
gawk 'BEGIN { while (("seq 100" | getline line) > 0) s += line; print s | "cat" }' | grep -q 5050
lua -e 'local p = io.popen("id -u"); print(p:read("a"))' | grep -q 0
