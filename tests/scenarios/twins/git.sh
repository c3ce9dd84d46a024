# git: git over ssh: clone, commit and push, with a hook on the other side

#: prepare
git config --global user.email a@example.org; git config --global user.name a
git config --global init.defaultBranch main; git config --global advice.detachedHead false
git init -q --bare /srv/git
cat > /srv/git/hooks/post-receive <<'HOOK'
#!/bin/sh
while read -r old new name; do git log --oneline -1 $new | cat > /tmp/pushed; id -u; done
HOOK
chmod 755 /srv/git/hooks/post-receive
#: turn
rm -rf /tmp/clone; git clone -q root@127.0.0.1:/srv/git /tmp/clone < /dev/null
cd /tmp/clone; date >> file; git add file; git commit -qm "work $SECONDS"
git push -q origin HEAD:main < /dev/null
git log --oneline | grep -q work; git grep -qP '\d\d:\d\d'; git gc -q; grep -q work /tmp/pushed
