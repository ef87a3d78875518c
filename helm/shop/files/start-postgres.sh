#!/bin/sh
# Makes the data folder in one step (what was interrupted before is thrown away), then becomes the server.
# The password is read from a mounted Secret, once; it is never an argument.
set -eu
umask 077
data=/data/postgres
if [ ! -e "$data/PG_VERSION" ]; then
  rm -rf "$data.partial"
  initdb --pgdata="$data.partial" --username="$ADMINISTRATOR" --pwfile=/etc/postgres/secrets/shop-postgres.password \
    --auth=scram-sha-256 --encoding=UTF8 --locale-provider=builtin --locale=C.UTF-8
  mv "$data.partial" "$data"
fi
# A volume whose group was set anew lets the group in, and then PostgreSQL does not start.
chmod 0700 "$data"
exec postgres -D "$data" --config-file=/etc/postgres/postgresql.conf --hba-file=/etc/postgres/pg_hba.conf
