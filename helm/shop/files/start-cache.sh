#!/bin/sh
# Starts the cache. Its user's password comes from a mounted Secret and goes into a file in memory, never into an argument.
set -eu
umask 077
{
  cat /etc/cache/cache.conf
  printf 'user shop on >%s ~* &* +@all -@admin -@dangerous +info +ping\n' "$(cat /etc/cache/secrets/shop-cache.password)"
} > /run/cache/cache.conf
exec "$1" /run/cache/cache.conf
