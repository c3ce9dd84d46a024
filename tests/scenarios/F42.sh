# F42: histories of shells lose their content: emptied, replaced by a link, removed
# stage: equipped
# expect: file_content_change
#   file.file_path: /root/.zsh_history
#   file.file_inode_size_bytes: 0
#   file.file_previous_inode_number: $emptied
#   file.file_previous_inode_size_bytes: 8
# expect: file_content_change
#   file.file_path: /root/.ash_history
#   file.file_type: SYMLINK
#   file.file_previous_inode_size_bytes: 8
# expect: file_content_change
#   file.file_path: /root/.python_history
#   file.file_previous_inode_number: $removed
#   file.file_previous_inode_size_bytes: 8

#: prepare
for name in zsh ash python; do echo "id; who" > /root/.${name}_history; done
fact emptied "$(stat -c %i /root/.zsh_history)"
fact removed "$(stat -c %i /root/.python_history)"
sleep 4
#: act
act
: > /root/.zsh_history
ln -sfn /dev/null /root/.ash_history
rm /root/.python_history
sleep 8
#: clean
rm /root/.zsh_history /root/.ash_history
