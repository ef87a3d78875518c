#!/bin/bash
# Whether mongod answers `hello`, without starting mongosh: the 52-byte OP_MSG goes over /dev/tcp (plain) or openssl (TLS), and
# the 16-byte head of the answer has to come back within 4 s. A standalone server that answers serves. Exit 0 yes, anything
# else no. Needs PORT; TLS=1 when the server speaks only TLS. The certificate is not judged: an ended one is no reason to kill
# a database, and nothing secret is said here.
set -u
if [[ ! ${PROBE_GUARDED:-} ]]; then
  PROBE_GUARDED=1 exec timeout 4 "${BASH_SOURCE[0]}"
fi
if [[ ${TLS:-} == 1 ]]; then
  # Without -no-CA... it would read the system's hundred authorities first.
  coproc TUNNEL { exec openssl s_client -quiet -no-CAfile -no-CApath -no-CAstore \
    -connect "127.0.0.1:$PORT" -servername localhost 2>/dev/null; }
  # Copies, because a coprocess's own descriptors are closed in pipelines.
  exec {from}<&"${TUNNEL[0]}" {to}>&"${TUNNEL[1]}" || exit 1
  # Waited for too: an orphan's parent would be the pod's first process, a mongod, and reaps nobody.
  trap '[[ -z ${TUNNEL_PID:-} ]] || { kill "$TUNNEL_PID"; wait "$TUNNEL_PID"; }' EXIT
else
  exec 3<>"/dev/tcp/127.0.0.1/$PORT" || exit 1
  from=3 to=3
fi
# {hello: 1, $db: "admin"}
printf '\x34\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0' >&"$to"
[[ $(head -c 16 <&"$from" | wc -c) == 16 ]]
