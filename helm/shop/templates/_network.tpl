{{/*
Who calls whom: the one place. `callers` are components of this chart; `clients` whether networkPolicy.clients may call it and the
cluster's toolbox too (`shardmart status` asks each service, the ledger and experiments place orders); `toolbox` that one alone;
`calls` components it reaches; `routers` whether it has a user; `api` whether it works on the Kubernetes API.
*/}}
{{- define "shop.calls" -}}
{{- $log := ternary "kafka" "" .Values.kafka.enabled -}}
catalogue: {callers: [console, test], clients: true, calls: [inventory, cache], routers: true}
order: {callers: [console, test], clients: true, calls: [{{ $log }}], routers: true}
inventory: {callers: [catalogue, console], clients: true, calls: [cache, {{ $log }}], routers: true}
payment: {callers: [provider, console], clients: true, calls: [provider, {{ $log }}], routers: true}
notification: {callers: [console, test], clients: true, calls: [cache, {{ $log }}], routers: true}
provider: {callers: [payment, console], toolbox: true, calls: [payment]}
console: {callers: [console], clients: true, calls: [catalogue, order, inventory, payment, notification, provider, console]}
cache: {callers: [catalogue, inventory, notification], toolbox: true, calls: []}
kafka: {callers: [order, inventory, payment, notification, kafka], toolbox: true, calls: [kafka]}
kafka-secrets: {callers: [], calls: [], api: true}
seed: {callers: [], calls: [], routers: true}
test: {callers: [], calls: [catalogue, order, notification], routers: true}
{{- end -}}

{{/* Port of a component. Takes {root, component}. */}}
{{- define "shop.port" -}}
{{- if eq .component "cache" }}6379{{ else if eq .component "kafka" }}{{ .root.Values.kafka.port }}{{ else }}{{ (get .root.Values.services .component).port }}{{ end -}}
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
    {{- if and (eq .component "notification") $root.Values.mail.host }}
    # The mail server, wherever it is: a policy knows no host names.
    - ports:
        - {port: {{ $root.Values.mail.port }}, protocol: TCP}
    {{- end }}
    {{- with $root.Values.networkPolicy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
