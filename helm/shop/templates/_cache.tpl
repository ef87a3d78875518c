{{/* Valkey's configuration, or Redis': a user of its own, nothing on disk. The user's line is added at the start (files/start-cache.sh). */}}
{{- define "shop.cacheConfiguration" -}}
bind * -::*
port 6379
protected-mode no
dir /run/cache
save ""
appendonly no
maxmemory {{ .Values.cache.memoryMB }}mb
maxmemory-policy allkeys-lru
user default off
{{- end -}}
