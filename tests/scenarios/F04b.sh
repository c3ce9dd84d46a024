# F04b: a foreign program that ends within a tenth of a second
# stage: shipped
# expect: foreign_binary_executed at least 1 distinct process.process_id
#   elf_file.elf_file_path: /tmp/f04b
#   elf_file.elf_file_hash_sha256: $sha256
#
# A slow watcher misses most of such programs: there is one after the other until it finds
# one.

#: prepare
cp /opt/stranger /tmp/f04b; fact sha256 "$(sha256sum < /tmp/f04b | cut -d' ' -f1)"
#: act
act
until come || ((SECONDS > 60)); do timeout 0.1 /tmp/f04b 2 || true; done
#: clean
rm /tmp/f04b
