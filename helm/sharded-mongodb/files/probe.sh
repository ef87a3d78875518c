#!/bin/bash
# Asks a server `hello` without starting mongosh: the 52-byte OP_MSG goes over /dev/tcp (plain) or openssl (TLS) and
# the answer's BSON is read with bash alone. A few ms of CPU plain, some ten with TLS; one mongosh start costs 0.6 s.
#   probe.sh alive          the server answers at all, whatever its state (initial sync and rollback included)
#   probe.sh member         it is PRIMARY or SECONDARY of an initiated set
#   probe.sh primary        it is PRIMARY
#   probe.sh replicated     the majority of its set has all it wrote, but for the last second
#   probe.sh router         it is a router
#   probe.sh answers USER   a router finds USER on the config servers: the cluster answers through it
# Exit 0 yes, 1 no. Needs PORT; TLS=1 when the server speaks only TLS. The certificate is not judged: an ended one is no
# reason to kill a database, and nothing secret is said here. See docs/decisions/050-tls.md.
set -u
export LC_ALL=C
# Whatever waits below (a connection to a server that accepts none, an answer that never ends) ends with this.
if [[ ! ${PROBE_GUARDED:-} ]]; then
  PROBE_GUARDED=1 timeout $((${PROBE_SECONDS:-4} + 1)) "${BASH_SOURCE[0]}" "$@"
  exit $(($? != 0))
fi
question=$1
deadline=$((SECONDS + ${PROBE_SECONDS:-4}))

# {hello: 1, $db: "admin"}
hello='\x34\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0'

little_endian() { # a number as the four bytes BSON wants, in printf's notation
  printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255))
}

sasl_start() { # {saslStart: 1, mechanism: "SCRAM-SHA-256", payload: BinData(0, "n,,n=USER,r=..."), $db: "admin"}
  local payload="n,,n=$1,r=readiness$RANDOM$RANDOM" length
  local document='\x10saslStart\0\x01\0\0\0\x02mechanism\0\x0e\0\0\0SCRAM-SHA-256\0\x05payload\0'
  document+="$(little_endian ${#payload})\\0$payload"'\x02$db\0\x06\0\0\0admin\0\0'
  length=$((4 + 15 + 11 + 4 + 14 + 9 + 5 + ${#payload} + 15 + 1))
  printf '%s\\x02\\0\\0\\0\\0\\0\\0\\0\\xdd\\x07\\0\\0\\0\\0\\0\\0\\0%s%s' \
    "$(little_endian $((21 + length)))" "$(little_endian $length)" "$document"
}

connect() { # reads on descriptor `from`, writes on descriptor `to`
  if [[ ${TLS:-} == 1 ]]; then
    # Without -no-CA... it would read the system's hundred authorities first: four times the CPU.
    coproc TUNNEL { exec openssl s_client -quiet -no-CAfile -no-CApath -no-CAstore \
      -connect "127.0.0.1:$PORT" -servername localhost 2>/dev/null; }
    # Copies, because a coprocess's own descriptors are closed in pipelines.
    exec {from}<&"${TUNNEL[0]}" {to}>&"${TUNNEL[1]}" || exit 1
    # Waited for too: whoever becomes the parent of an orphan is the pod's first process, a mongod, and reaps nobody.
    trap '[[ -z ${TUNNEL_PID:-} ]] || { kill "$TUNNEL_PID"; wait "$TUNNEL_PID"; }' EXIT
  else
    exec 3<>"/dev/tcp/127.0.0.1/$PORT" || exit 1
    from=3 to=3
  fi 2>/dev/null
}

next_word() { # the answer up to the next zero byte
  # Not `read -t 0`, which reads nothing and succeeds when there is something to read, or nothing ever again.
  ((deadline > SECONDS)) && IFS= read -r -d '' -t $((deadline - SECONDS)) -u "$from" word
}

connect
case $question in
  answers) printf "$(sasl_start "$2")" >&"$to" ;;
  *) printf "$hello" >&"$to" ;;
esac 2>/dev/null || exit 1

milliseconds() { # value of the BSON date named $1 in the answer $answer, both in hexadecimal: little-endian
  [[ $answer =~ 09$1'00'(..)(..)(..)(..)(..)(..) ]] || exit 1
  local bytes=("${BASH_REMATCH[@]}")
  echo $((16#${bytes[6]}${bytes[5]}${bytes[4]}${bytes[3]}${bytes[2]}${bytes[1]}))
}

if [[ $question == replicated ]]; then
  length=$(head -c 4 <&"$from" | od -An -v -tu4)
  answer=$(head -c $((length - 4)) <&"$from" | od -An -v -tx1 | tr -d ' \n')
  written=$(milliseconds 6c617374577269746544617465) || exit 1               # lastWriteDate
  replicated=$(milliseconds 6d616a6f72697479577269746544617465) || exit 1 # majorityWriteDate
  ((written - replicated <= 1000))
  exit
fi

# Booleans in BSON are 0x08, the name, a zero byte, then 0x01 for true: false reads as an empty word.
while next_word; do
  case $question:$word in
    alive:*isWritablePrimary) exit 0 ;;
    member:*isWritablePrimary | member:*secondary | primary:*isWritablePrimary)
      next_word || exit 1
      [[ $word == $'\x01'* ]] && exit 0
      [[ $question == primary ]] && exit 1 ;;
    router:*isdbgrid) exit 0 ;;
    answers:*conversationId) exit 0 ;;
    *:*errmsg | *:*ok) exit 1 ;;
  esac
done
exit 1
