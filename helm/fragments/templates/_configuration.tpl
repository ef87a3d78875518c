{{/*
fragments.json: where the stores are (src/shardmart/fragments/configuration.py). It holds no secret, only the names of files that
pods mount beside it, so that Helm never sees any (docs/decisions/022, 128).
*/}}
{{- define "fragments.configuration" -}}
{{- $nodes := list -}}
{{- range .Values.regions -}}
{{- $nodes = append $nodes (dict "name" . "host" (include "fragments.nodeHost" (dict "root" $ "region" .)) "port" (int $.Values.port)) -}}
{{- end -}}
{{- $file := dict "version" 1 "nodes" $nodes "catch_all" .Values.catchAll "secrets" "secrets" -}}
{{- if .Values.tls.enabled -}}
{{- $_ := set $file "tls" (dict "ca_file" "/state/tls/fragments-ca.pem" "nodes_ca_file" "/etc/postgres/tls/ca.pem") -}}
{{- end -}}
{{- if .Values.mongodb.enabled -}}
{{- $cluster := .Values.mongodb -}}
{{- $routers := printf "%s-%s" $cluster.cluster $cluster.routers.name -}}
{{- $hosts := list -}}
{{- range $n := untilStep 1 (int (add1 $cluster.routers.replicas)) 1 -}}
{{- $hosts = append $hosts (printf "%s-%d.%s.%s.svc.%s:%d" $routers $n $routers $.Release.Namespace $.Values.clusterDomain (int $cluster.port)) -}}
{{- end -}}
{{- $mongodb := dict "address" (join "," $hosts) -}}
{{- if $cluster.tls.enabled }}{{ $_ := set $mongodb "ca_file" "/state/tls/ca.pem" }}{{ end -}}
{{- $_ := set $file "mongodb" $mongodb -}}
{{- end -}}
{{- toPrettyJson $file -}}
{{- end -}}

{{/* The files in the Secret, as a JSON list of names: with MongoDB beside it also that of the user there. */}}
{{- define "fragments.passwords" -}}
{{- $names := list "fragments-admin.password" "fragments-app.password" "fragments-peer.password" -}}
{{- toJson (ternary (append $names "fragments-mongodb.password") $names .Values.mongodb.enabled) -}}
{{- end -}}

{{/* postgresql.conf: the same parameters as on the embedded platform (a unit test compares), listening to other pods. */}}
{{- define "fragments.postgresqlConf" -}}
listen_addresses = '*'
port = {{ .Values.port }}
{{ .Files.Get "files/postgresql.conf" }}
{{- if .Values.tls.enabled }}
ssl = on
ssl_cert_file = '/etc/postgres/tls/server.pem'
ssl_key_file = '/etc/postgres/tls/server.pem'
{{- end }}
{{- range $name, $value := .Values.node.parameters }}
{{ $name }} = '{{ $value | toString | replace "'" "''" }}'
{{- end }}
{{- end -}}

{{/* pg_hba.conf: nobody comes in without a password, nor without TLS where the nodes speak it. */}}
{{- define "fragments.access" -}}
{{ ternary "hostssl" "host" .Values.tls.enabled }} all all all scram-sha-256
{{- end -}}

{{- define "fragments.tlsSecret" -}}
{{- .Values.tls.existingSecret | default (include "fragments.name" (dict "root" . "component" "tls")) -}}
{{- end -}}
