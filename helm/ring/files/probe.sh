#!/bin/bash
# Whether mongod answers `hello`, without starting mongosh: the 52-byte OP_MSG goes over /dev/tcp, and the 16-byte head of
# the answer has to come back within 4 s. A standalone server that answers serves. Exit 0 yes, anything else no. Needs PORT.
set -u
if [[ ! ${PROBE_GUARDED:-} ]]; then
  PROBE_GUARDED=1 exec timeout 4 "${BASH_SOURCE[0]}"
fi
exec 3<>"/dev/tcp/127.0.0.1/$PORT" || exit 1
# {hello: 1, $db: "admin"}
printf '\x34\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0' >&3
[[ $(head -c 16 <&3 | wc -c) == 16 ]]
