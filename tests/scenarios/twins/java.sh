# java: java at work: keys made by keytool

#: turn
rm -f /tmp/keys; java -version 2>&1 | grep -q OpenJDK
/usr/lib/jvm/java-17-openjdk-amd64/bin/keytool -genkeypair -alias a -keyalg RSA -keysize 2048 \
  -dname CN=a \
  -keystore /tmp/keys -storepass secret -keypass secret > /dev/null 2>&1
/usr/lib/jvm/java-17-openjdk-amd64/bin/keytool -list -keystore /tmp/keys -storepass secret \
  2>/dev/null | grep -q PrivateKeyEntry
