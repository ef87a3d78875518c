#!/bin/bash
# Starts mongod. It refuses a keyfile that the group may read, and fsGroup makes every mounted Secret readable by the
# group: so a private copy in memory is used.
set -euo pipefail
umask 077
# A container that crashed starts again with the same volume: its copy is read-only and would stop it for ever.
rm -f /run/mongodb/keyfile
cat /etc/mongodb/auth/keyfile > /run/mongodb/keyfile
chmod 0400 /run/mongodb/keyfile
exec mongod --config=/etc/mongodb/mongod.conf
