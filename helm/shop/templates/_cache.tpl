{{/*
Valkey's configuration, or Redis': a user of its own, nothing on disk. Where the catalogue reads stock from it alone, it keeps what it has;
else it is a copy that is made anew. The user's line is added at the start (files/start-cache.sh).
*/}}
{{- define "shop.cacheConfiguration" -}}
bind * -::*
port 6379
protected-mode no
dir {{ ternary "/data" "/run/cache" .Values.postgres.catalogue }}
save ""
appendonly {{ ternary "yes" "no" .Values.postgres.catalogue }}
maxmemory {{ .Values.cache.memoryMB }}mb
maxmemory-policy {{ ternary "noeviction" "allkeys-lru" .Values.postgres.catalogue }}
user default off
{{- end -}}
