{{/*
Who calls whom: the one place. `callers` are components of this chart; `clients` whether networkPolicy.clients may call it and the
cluster's toolbox too (`shardmart status` asks each service, the ledger and experiments place orders); `toolbox` that one alone;
`calls` components it reaches; `routers` whether it has a user; `api` whether it works on the Kubernetes API.
*/}}
{{- define "shop.calls" -}}
{{- $log := ternary "kafka" "" .Values.kafka.enabled -}}
{{- $ours := not (empty (include "shop.runsPostgres" .)) -}}
{{- $store := ternary "postgres" "" (and .Values.postgres.store $ours) -}}
{{- $products := ternary "postgres" "" (and .Values.postgres.catalogue $ours) -}}
{{- $inCluster := not .Values.postgres.store -}}
{{- $rotated := include "shop.rotated" . | fromJsonArray -}}
{{- $postgresClients := include "shop.postgresClients" . | fromJsonArray -}}
{{- if has "postgres" $rotated }}{{ $postgresClients = append $postgresClients "rotation" }}{{ end -}}
catalogue: {callers: [console, test], clients: true, calls: [inventory, cache, {{ $products }}], routers: true}
order: {callers: [console, test], clients: true, calls: [{{ $log }}{{ $store }}], routers: true}
inventory: {callers: [catalogue, console], clients: true, calls: [cache, {{ $log }}{{ $store }}], routers: {{ $inCluster }}}
payment: {callers: [provider, console], clients: true, calls: [provider, {{ $log }}{{ $store }}], routers: {{ $inCluster }}}
notification: {callers: [console, test], clients: true, calls: [cache, {{ $log }}{{ $store }}], routers: {{ $inCluster }}}
provider: {callers: [payment, console], toolbox: true, calls: [payment]}
console: {callers: [console], clients: true, calls: [catalogue, order, inventory, payment, notification, provider, console]}
cache: {callers: [catalogue, inventory, notification{{ if .Values.postgres.catalogue }}, seed{{ end }}{{ if has "cache" $rotated }}, rotation{{ end }}], toolbox: true, calls: []}
cache-secrets: {callers: [], calls: [], api: true}
kafka: {callers: [order, inventory, payment, notification, kafka{{ if has "kafka" $rotated }}, rotation{{ end }}], toolbox: true, calls: [kafka]}
kafka-secrets: {callers: [], calls: [], api: true}
postgres: {callers: {{ toJson $postgresClients }}, toolbox: true, calls: []}
postgres-secrets: {callers: [], calls: [], api: true}
rotation: {callers: [], calls: {{ toJson $rotated }}, api: true}
migrate: {callers: [], calls: [{{ $store }}], routers: true}
seed: {callers: [], calls: [{{ if .Values.postgres.catalogue }}cache, {{ $products }}{{ end }}], routers: true}
test: {callers: [], calls: [catalogue, order, notification], routers: true}
{{- end -}}

{{/* Port of a component. Takes {root, component}. */}}
{{- define "shop.port" -}}
{{- if eq .component "cache" }}6379{{ else if has .component (list "kafka" "postgres") }}{{ (get .root.Values .component).port }}{{ else }}{{ (get .root.Values.services .component).port }}{{ end -}}
{{- end -}}

{{/* A NetworkPolicy of one component. Takes {root, component, own (annotations)}. */}}
{{- define "shop.networkPolicy" -}}
{{- $root := .root -}}
{{- $rules := get (include "shop.calls" $root | fromYaml) .component -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
{{ include "shop.metadata" . }}
spec:
  podSelector:
    matchLabels:
      {{- include "shop.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- /* Nobody may connect: no key at all. The API server takes an empty list for a change at every apply. */}}
  {{- if or $rules.callers $root.Values.networkPolicy.extraIngress }}
  ingress:
    {{- if $rules.callers }}
    - from:
        {{- range $rules.callers }}
        - podSelector:
            matchLabels:
              {{- include "shop.selector" (dict "root" $root "component" .) | nindent 14 }}
        {{- end }}
        {{- if or $rules.clients $rules.toolbox }}
        - podSelector:
            matchLabels:
              app.kubernetes.io/name: sharded-mongodb
              app.kubernetes.io/component: toolbox
        {{- end }}
        {{- if $rules.clients }}
        {{- with $root.Values.networkPolicy.clients }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- end }}
      ports:
        - {port: {{ include "shop.port" . }}, protocol: TCP}
    {{- end }}
    {{- if eq .component "kafka" }}
    # Controllers answer each other and nobody else.
    - from:
        - podSelector:
            matchLabels:
              {{- include "shop.selector" . | nindent 14 }}
      ports:
        - {port: {{ include "shop.controllerPort" $root }}, protocol: TCP}
    {{- end }}
    {{- with $root.Values.networkPolicy.extraIngress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  egress:
    - to:
        - namespaceSelector: {}
          podSelector:
            matchLabels:
              k8s-app: kube-dns
      ports:
        - {port: 53, protocol: UDP}
        - {port: 53, protocol: TCP}
    {{- range $rules.calls }}
    - to:
        - podSelector:
            matchLabels:
              {{- include "shop.selector" (dict "root" $root "component" .) | nindent 14 }}
      ports:
        - {port: {{ include "shop.port" (dict "root" $root "component" .) }}, protocol: TCP}
        {{- if eq $.component "kafka" }}
        - {port: {{ include "shop.controllerPort" $root }}, protocol: TCP}
        {{- end }}
    {{- end }}
    {{- if $rules.api }}
    # The Kubernetes API, whose address no policy can know.
    - ports:
        {{- range $root.Values.networkPolicy.apiServerPorts }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
    {{- end }}
    {{- if $rules.routers }}
    - to:
        - podSelector:
            matchLabels:
              app.kubernetes.io/name: sharded-mongodb
              app.kubernetes.io/component: router
      ports:
        - {port: {{ $root.Values.cluster.port }}, protocol: TCP}
    {{- end }}
    {{- if has .component (include "shop.cartServices" $root | fromJsonArray) }}
    - to:
        - podSelector:
            matchLabels:
              app.kubernetes.io/name: ring
              app.kubernetes.io/instance: {{ $root.Values.ring.release | quote }}
      ports:
        - {port: {{ $root.Values.ring.port }}, protocol: TCP}
    {{- end }}
    {{- if and $root.Values.postgres.host (has .component (include "shop.postgresClients" $root | fromJsonArray)) }}
    # The server of PostgreSQL that is given, wherever it is: a policy knows no host names.
    - ports:
        - {port: {{ $root.Values.postgres.port }}, protocol: TCP}
    {{- end }}
    {{- if and (eq .component "notification") $root.Values.mail.host }}
    # The mail server, wherever it is: a policy knows no host names.
    - ports:
        - {port: {{ $root.Values.mail.port }}, protocol: TCP}
    {{- end }}
    {{- with $root.Values.networkPolicy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
