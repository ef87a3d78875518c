{{/*
Who calls whom: the one place. `callers` are components of this chart; `clients` whether networkPolicy.clients may call it; `nodes`
whether it calls the nodes; `routers` the routers of the cluster beside it; `api` the Kubernetes API.
*/}}
{{- define "fragments.calls" -}}
node: {callers: [node, repair, bootstrap, test], clients: true, nodes: true}
repair: {callers: [], nodes: true, routers: true}
bootstrap: {callers: [], nodes: true, routers: true}
test: {callers: [], nodes: true}
secrets: {callers: [], api: true}
{{- end -}}

{{/* A NetworkPolicy of one component. Takes {root, component, own (annotations)}. */}}
{{- define "fragments.networkPolicy" -}}
{{- $root := .root -}}
{{- $rules := get (include "fragments.calls" $root | fromYaml) .component -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
{{ include "fragments.metadata" . }}
spec:
  podSelector:
    matchLabels:
      {{- include "fragments.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- /* Nobody may connect: no key at all. The API server takes an empty list for a change at every apply. */}}
  {{- if or $rules.callers $root.Values.networkPolicy.extraIngress }}
  ingress:
    {{- if $rules.callers }}
    - from:
        {{- range $rules.callers }}
        - podSelector:
            matchLabels:
              {{- include "fragments.selector" (dict "root" $root "component" .) | nindent 14 }}
        {{- end }}
        {{- if $rules.clients }}
        {{- with $root.Values.networkPolicy.clients }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- end }}
      ports:
        - {port: {{ $root.Values.port }}, protocol: TCP}
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
    {{- if $rules.api }}
    # The Kubernetes API, whose address no policy can know.
    - ports:
        {{- range $root.Values.networkPolicy.apiServerPorts }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
    {{- end }}
    {{- if $rules.nodes }}
    - to:
        - podSelector:
            matchLabels:
              {{- include "fragments.selector" (dict "root" $root "component" "node") | nindent 14 }}
      ports:
        - {port: {{ $root.Values.port }}, protocol: TCP}
    {{- end }}
    {{- if and $rules.routers $root.Values.mongodb.enabled }}
    - to:
        - podSelector:
            matchLabels:
              app.kubernetes.io/name: sharded-mongodb
              app.kubernetes.io/component: router
      ports:
        - {port: {{ $root.Values.mongodb.port }}, protocol: TCP}
    {{- end }}
    {{- with $root.Values.networkPolicy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
