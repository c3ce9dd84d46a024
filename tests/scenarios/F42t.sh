# F42t: twin: histories that shells write, that an editor replaces, and those of a removed home
# stage: equipped
# expect: file_content_change x0
#   file.file_path: ~_history
# expect: file_descriptor_file_content_change x0
#   file_descriptor.file_descriptor_name: ~_history

#: prepare
mkdir -p /home/f42t
for name in zsh ash python; do
  for number in {1..20}; do echo "id; who"; done > /root/.${name}_history
  cp /root/.${name}_history /home/f42t
done
sleep 4
#: act
act
# zsh appends, bash keeps the last lines, an editor puts the old file aside.
echo "uptime" >> /root/.zsh_history
tail -n 5 /root/.ash_history > /root/.ash_history-714.tmp
mv -f /root/.ash_history-714.tmp /root/.ash_history
sed -i 's/who/w/' /root/.python_history
mv /root/.zsh_history /root/.zsh_history~; cp /root/.zsh_history~ /root/.zsh_history
rm /root/.zsh_history~
test -e /root/.histfile || true
rm -r /home/f42t
sleep 8
#: clean
rm /root/.zsh_history /root/.ash_history /root/.python_history
