{{/*
The settings file of each service (src/shardmart/shop/settings.py). It holds no secret: `{secret:NAME}` stands for one that the
pod mounts beside it, so that Helm never sees any (docs/decisions/022, 111).
*/}}

{{/* Services with data, those with a user of the cluster's database, and those that use the cache, as JSON lists. */}}
{{- define "shop.databaseUsers" -}}
{{- toJson (list "catalogue" "order" "inventory" "payment" "notification") -}}
{{- end -}}
{{/* Of a shop on PostgreSQL only who has carts or products in the cluster is told of it. */}}
{{- define "shop.clusterUsers" -}}
{{- ternary (toJson (list "catalogue" "order")) (include "shop.databaseUsers" .) .Values.postgres.store -}}
{{- end -}}
{{- define "shop.cacheReaders" -}}
{{- toJson (ternary (list "catalogue" "inventory" "notification") list .Values.cache.enabled) -}}
{{- end -}}

{{/* Services that have to do with carts, where they are on a ring, as a JSON list. */}}
{{- define "shop.cartServices" -}}
{{- toJson (ternary (list "catalogue" "order") list (not (empty .Values.ring.release))) -}}
{{- end -}}

{{/* Secrets that a component mounts, as a JSON list of names. Takes {root, component}. */}}
{{- define "shop.secrets" -}}
{{- $names := list "shop-tokens" -}}
{{- if has .component (include "shop.clusterUsers" .root | fromJsonArray) }}{{ $names = append $names (printf "shop-%s" .component) }}{{ end -}}
{{- if has .component (include "shop.cacheReaders" .root | fromJsonArray) }}{{ $names = append $names "shop-cache" }}{{ end -}}
{{- if has .component (list "payment" "provider") }}{{ $names = concat $names (list "shop-provider" "shop-webhook") }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{/* Connection string of a service's user, through every router. Takes {root, component}. */}}
{{- define "shop.uri" -}}
{{- $cluster := .root.Values.cluster -}}
{{- $routers := printf "%s-%s" $cluster.name $cluster.routers.name -}}
{{- $hosts := list -}}
{{- range $n := untilStep 1 (int (add1 $cluster.routers.replicas)) 1 -}}
{{- $hosts = append $hosts (printf "%s-%d.%s.%s.svc.%s:%d" $routers $n $routers $.root.Release.Namespace $.root.Values.clusterDomain (int $cluster.port)) -}}
{{- end -}}
{{- printf "mongodb://shop-%s:{secret:shop-%s}@%s/?authSource=admin%s" .component .component (join "," $hosts) (ternary "&tls=true&tlsCAFile=/etc/shop/tls/ca.pem" "" $cluster.tls.enabled) -}}
{{- end -}}

{{/* The file of one service. Takes {root, component}. */}}
{{- define "shop.settings" -}}
{{- $root := .root -}}
{{- $settings := include "shop.settingsOf" . | fromYaml -}}
{{- $urls := dict -}}
{{- range (include "shop.databaseUsers" $root | fromJsonArray) }}{{ $_ := set $urls . (include "shop.url" (dict "root" $root "component" .)) }}{{ end -}}
{{- $file := dict "secrets_folder" "/etc/shop/secrets" "tokens" (dict "keys" (list "{secret:shop-tokens}")) "urls" $urls "drain_seconds" $settings.drainSeconds -}}
{{- if has .component (include "shop.clusterUsers" $root | fromJsonArray) -}}
{{- $_ := set $file "mongodb" (dict "uri" (include "shop.uri" .) "database" $root.Values.cluster.database "regions" $root.Values.cluster.regions) -}}
{{- end -}}
{{- if has .component (include "shop.cacheReaders" $root | fromJsonArray) -}}
{{- $_ := set $file "cache" "redis" -}}
{{- $_ := set $file "redis_url" (include "shop.cacheUrl" $root) -}}
{{- end -}}
{{- if has .component (include "shop.eventServices" $root | fromJsonArray) }}{{ $_ := set $file "kafka" (include "shop.kafkaSettings" . | fromJson) }}{{ end -}}
{{- $file = merge $file (include "shop.postgresSettings" . | fromJson) -}}
{{- if has .component (include "shop.cartServices" $root | fromJsonArray) }}{{ $_ := set $file "ring_settings" "/etc/shop/ring/settings.json" }}{{ end -}}
{{- if has .component (list "payment" "provider") -}}
{{- $_ := set $file "provider" (dict "url" (include "shop.url" (dict "root" $root "component" "provider")) "api_key" "{secret:shop-provider}" "webhook_secret" "{secret:shop-webhook}") -}}
{{- end -}}
{{- if and (eq .component "notification") $root.Values.mail.host -}}
{{- $mail := $root.Values.mail -}}
{{- $smtp := dict "host" $mail.host "port" $mail.port "security" $mail.security "sender" $mail.sender "operator" $mail.operator -}}
{{- if $mail.user }}{{ $_ := set $smtp "user" $mail.user }}{{ $_ := set $smtp "password" "{secret:mail}" }}{{ end -}}
{{- $_ := set $file "smtp" $smtp -}}
{{- end -}}
{{- if eq .component "provider" }}{{ $_ := set $file "data_folder" "/data" }}{{ end -}}
{{- if eq .component "console" -}}
{{- $instances := dict -}}
{{- range (append (include "shop.scaled" $root | fromJsonArray) "provider") -}}
{{- $_ := set $instances . (list (include "shop.url" (dict "root" $root "component" . "pods" true))) -}}
{{- end -}}
{{- $_ := set $file "instances" $instances -}}
{{- end -}}
{{- mergeOverwrite $file (deepCopy $settings.settings) | toPrettyJson -}}
{{- end -}}

{{/* What a pod mounts at /etc/shop: the settings, its secrets, the cluster's authority. Takes {root, component (whose file it is)}. */}}
{{- define "shop.settingsVolume" -}}
- name: settings
  projected:
    # Read by the group that owns volumes, and by nobody else.
    defaultMode: 0440
    sources:
      - configMap:
          name: {{ include "shop.name" (dict "root" .root "component" "settings") }}
          items:
            - {key: {{ .component }}.json, path: settings.json}
      - secret:
          name: {{ include "shop.authSecret" .root }}
          items:
            {{- range (include "shop.secrets" . | fromJsonArray) }}
            - {key: {{ . }}.password, path: secrets/{{ . }}.password}
            {{- end }}
      {{- if and (eq .component "notification") .root.Values.mail.host .root.Values.mail.user }}
      - secret:
          name: {{ .root.Values.mail.secret }}
          items:
            - {key: password, path: secrets/mail.password}
      {{- end }}
      {{- if has .component (include "shop.eventServices" .root | fromJsonArray) }}
      - secret:
          name: {{ include "shop.kafkaSecret" .root }}
          items:
            - {key: shop-kafka-{{ .component }}.password, path: secrets/shop-kafka-{{ .component }}.password}
      {{- if .root.Values.cluster.tls.enabled }}
      - secret:
          name: {{ include "shop.kafkaTlsSecret" .root }}
          items:
            - {key: ca.crt, path: kafka/ca.crt}
      {{- end }}
      {{- end }}
      {{- if and (has .component (include "shop.cacheReaders" .root | fromJsonArray)) (include "shop.cacheTls" .root) }}
      - secret:
          name: {{ include "shop.cacheTlsSecret" .root }}
          items:
            - {key: ca.crt, path: cache/ca.crt}
      {{- end }}
      {{- with include "shop.postgresHeld" . | fromJsonArray }}
      - secret:
          name: {{ include "shop.postgresSecret" $.root }}
          items:
            {{- range . }}
            - {key: {{ . }}.password, path: secrets/{{ . }}.password}
            {{- end }}
      {{- if include "shop.postgresAuthority" $.root }}
      - secret:
          name: {{ include "shop.postgresTlsSecret" $.root }}
          items:
            - {key: ca.crt, path: postgres/ca.crt}
      {{- end }}
      {{- end }}
      {{- if has .component (include "shop.cartServices" .root | fromJsonArray) }}
      # What helm/ring gives to its clients; it follows the ring's nodes without a new pod.
      - configMap:
          name: {{ .root.Values.ring.release }}-settings
          items:
            - {key: settings.json, path: ring/settings.json}
      - secret:
          name: {{ .root.Values.ring.release }}-auth
          items:
            - {key: ring.password, path: ring/ring.password}
      # There where the ring speaks TLS.
      - secret:
          name: {{ .root.Values.ring.tlsSecret | default (printf "%s-tls" .root.Values.ring.release) }}
          optional: true
          items:
            - {key: ca.crt, path: ring/ca.crt}
      {{- end }}
      {{- if .root.Values.cluster.tls.enabled }}
      - secret:
          name: {{ include "shop.tlsSecret" .root }}
          items:
            - {key: {{ .root.Values.cluster.tls.ca }}, path: tls/ca.pem}
      {{- end }}
{{- end -}}
