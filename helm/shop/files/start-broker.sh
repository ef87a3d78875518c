#!/bin/sh
# Starts a broker of Kafka, with the options of Java as arguments. Passwords come from a mounted Secret and go into a file
# in memory, never into an argument; the volume is formatted once.
set -eu
umask 077

fail() {
  echo "$1" >&2
  exit 1
}

# A quorum's voters are fixed: a broker with the volume of another one would never come to an end with them.
if [ -e /data/brokers ] && [ "$(cat /data/brokers)" != "$BROKERS" ]; then
  fail "This volume is of a log with $(cat /data/brokers) broker(s), and kafka.brokers is $BROKERS: put it back, or delete the claims data-$SERVICE-*."
fi

password() {
  found=$(cat "/etc/kafka/secrets/$1.password")
  case $found in
    '' | *[!A-Za-z0-9._~-]*) fail "$1.password in the Secret is empty, or has more than letters, digits and . _ ~ -" ;;
  esac
  echo "$found"
}

module=org.apache.kafka.common.security.plain.PlainLoginModule
own=$(password shop-kafka)
users=
for service in order inventory payment notification; do
  other=$(password "shop-kafka-$service")
  users="$users user_shop-$service=\"$other\""
done
login="$module required username=\"broker\" password=\"$own\" user_broker=\"$own\""
{
  cat /etc/kafka/broker.properties
  echo "node.id=${POD##*-}"
  echo "advertised.listeners=CLIENT://$POD.$DOMAIN:$PORT"
  echo "listener.name.client.plain.sasl.jaas.config=$login$users;"
  echo "listener.name.controller.plain.sasl.jaas.config=$login;"
} > /run/kafka/broker.properties

set -- java "$@" -XX:+ExitOnOutOfMemoryError -Dlog4j2.level=WARN -cp "$LIBRARIES/*"
if [ ! -e /data/log/meta.properties ]; then
  "$@" kafka.tools.StorageTool format --ignore-formatted --cluster-id="$CLUSTER" --config=/run/kafka/broker.properties
fi
echo "$BROKERS" > /data/brokers
exec "$@" kafka.Kafka /run/kafka/broker.properties
