{{/*
Valkey's configuration, or Redis': a user of its own, nothing on disk. Where the catalogue reads stock from it alone, it keeps what it has;
else it is a copy that is made anew. The user's line is added at the start (files/start-cache.sh).
*/}}
{{- define "shop.cacheConfiguration" -}}
{{ if include "shop.cacheTls" . -}}
port 0
unixsocket /run/cache/cache.sock
unixsocketperm 700
{{ else -}}
bind * -::*
port 6379
{{ end -}}
protected-mode no
dir {{ ternary "/data" "/run/cache" .Values.postgres.catalogue }}
save ""
appendonly {{ ternary "yes" "no" .Values.postgres.catalogue }}
maxmemory {{ .Values.cache.memoryMB }}mb
maxmemory-policy {{ ternary "noeviction" "allkeys-lru" .Values.postgres.catalogue }}
user default off
{{- end -}}

{{/* It speaks TLS and nothing else. */}}
{{- define "shop.cacheTls" -}}
{{- if and .Values.cache.enabled .Values.cluster.tls.enabled .Values.cache.tls.enabled }}yes{{ end -}}
{{- end -}}

{{- define "shop.cacheTlsSecret" -}}
{{- .Values.cache.tls.existingSecret | default (include "shop.name" (dict "root" . "component" "cache-tls")) -}}
{{- end -}}

{{- define "shop.cacheHost" -}}
{{- printf "%s.%s.svc.%s" (include "shop.name" (dict "root" . "component" "cache")) .Release.Namespace .Values.clusterDomain -}}
{{- end -}}

{{/* Where services find it: the authority is a file that they mount. */}}
{{- define "shop.cacheUrl" -}}
{{- $tls := not (empty (include "shop.cacheTls" .)) -}}
{{- printf "%s://shop:{secret:shop-cache}@%s:6379/0%s" (ternary "rediss" "redis" $tls) (include "shop.cacheHost" .) (ternary "?ssl_ca_certs=/etc/shop/cache/ca.crt" "" $tls) -}}
{{- end -}}

{{/* Whose name its certificate has. */}}
{{- define "shop.cacheCertified" }}{{ include "shop.cacheHost" . }}{{ end -}}

{{/*
TLS before the cache: an Envoy in the same pod, which passes what it decrypts on to the server's socket. The server has no port then, so it is
never spoken to in the clear; the same on one machine (platforms/embedded_shop/cache_tls.py), because the server out of a wheel knows no TLS.
*/}}
{{- define "shop.cacheEnvoy" -}}
{{- $types := "type.googleapis.com/envoy" -}}
{{- $address := dict "address" (ternary "::" "0.0.0.0" .Values.ipv6) "port_value" 6379 -}}
{{- if .Values.ipv6 }}{{ $_ := set $address "ipv4_compat" true }}{{ end -}}
{{- $sds := dict "resource_api_version" "V3" "path_config_source" (dict "path" "/etc/cache/certificate.json") -}}
{{- $context := dict "@type" (printf "%s.extensions.transport_sockets.tls.v3.DownstreamTlsContext" $types) "common_tls_context" (dict "tls_params" (dict "tls_minimum_protocol_version" "TLSv1_2") "tls_certificate_sds_secret_configs" (list (dict "name" "server" "sds_config" $sds))) -}}
{{- $proxy := dict "@type" (printf "%s.extensions.filters.network.tcp_proxy.v3.TcpProxy" $types) "stat_prefix" "cache" "cluster" "cache" "idle_timeout" "0s" -}}
{{- $chain := dict "filters" (list (dict "name" "envoy.filters.network.tcp_proxy" "typed_config" $proxy)) "transport_socket" (dict "name" "envoy.transport_sockets.tls" "typed_config" $context) -}}
{{- $listener := dict "name" "cache" "address" (dict "socket_address" $address) "filter_chains" (list $chain) -}}
{{- $endpoint := dict "endpoint" (dict "address" (dict "pipe" (dict "path" "/run/cache/cache.sock"))) -}}
{{- $cluster := dict "name" "cache" "type" "STATIC" "connect_timeout" "1s" "load_assignment" (dict "cluster_name" "cache" "endpoints" (list (dict "lb_endpoints" (list $endpoint)))) -}}
{{- dict "node" (dict "id" "cache-tls" "cluster" "shop") "static_resources" (dict "listeners" (list $listener) "clusters" (list $cluster)) | toPrettyJson -}}
{{- end -}}

{{/* Which certificate; Envoy watches the folder and serves a renewed one at once. */}}
{{- define "shop.cacheCertificate" -}}
{{- $files := dict "certificate_chain" (dict "filename" "/etc/cache/tls/tls.crt") "private_key" (dict "filename" "/etc/cache/tls/tls.key") "watched_directory" (dict "path" "/etc/cache") -}}
{{- dict "resources" (list (dict "@type" "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret" "name" "server" "tls_certificate" $files)) | toPrettyJson -}}
{{- end -}}
