{{/*
A NetworkPolicy of one component. Takes {root, component, callers (components that may connect to it), calls
(components it may connect to), from (further peers), to (peers beside the cluster), anywhere (a port), api (whether it works on the Kubernetes API), own (annotations)}.
*/}}
{{- define "sharded-mongodb.networkPolicy" -}}
{{- $root := .root -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "sharded-mongodb.fullname" $root }}-{{ .component }}
  labels:
    {{- include "sharded-mongodb.labels" (dict "root" $root "component" .component) | nindent 4 }}
  {{- include "sharded-mongodb.annotations" (dict "root" $root "own" .own) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "sharded-mongodb.selector" (dict "root" $root "component" .component) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- /* Nobody may connect: no key at all. The API server takes an empty list for a change at every apply. */}}
  {{- if or .callers .from $root.Values.networkPolicy.extraIngress }}
  ingress:
    {{- if or .callers .from }}
    - from:
        {{- range .callers }}
        - podSelector:
            matchLabels:
              {{- include "sharded-mongodb.selector" (dict "root" $root "component" .) | nindent 14 }}
        {{- end }}
        {{- with .from }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - port: {{ $root.Values.port }}
          protocol: TCP
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
    {{- if .api }}
    # The Kubernetes API, whose address no policy can know.
    - ports:
        {{- range $root.Values.networkPolicy.apiServerPorts }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
    {{- end }}
    {{- if .calls }}
    - to:
        {{- range .calls }}
        - podSelector:
            matchLabels:
              {{- include "sharded-mongodb.selector" (dict "root" $root "component" .) | nindent 14 }}
        {{- end }}
      ports:
        - port: {{ $root.Values.port }}
          protocol: TCP
    {{- end }}
    {{- with .to }}
    # The shop on this cluster.
    - to:
        {{- toYaml . | nindent 8 }}
    {{- end }}
    {{- with .anywhere }}
    # The shop's PostgreSQL that is given, wherever it is: a policy knows no host names.
    - ports:
        - {port: {{ . }}, protocol: TCP}
    {{- end }}
    {{- with $root.Values.networkPolicy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* The pods of the shop on this cluster, as a JSON list of peers; empty where there is none. */}}
{{- define "sharded-mongodb.shopPods" -}}
{{- $labels := dict "app.kubernetes.io/name" "shop" "shardmart/cluster" (include "sharded-mongodb.fullname" .) -}}
{{- toJson (ternary (list (dict "podSelector" (dict "matchLabels" $labels))) list .Values.shop.enabled) -}}
{{- end -}}

{{/* Components of the chart that speak to every server, as a JSON list: the optional ones only where they are enabled. */}}
{{- define "sharded-mongodb.operators" -}}
{{- $operators := list "toolbox" "bootstrap" -}}
{{- if .Values.chaos.engine.enabled }}{{ $operators = append $operators "chaos" }}{{ end -}}
{{- if and .Values.tls.enabled .Values.tls.rotation.enabled }}{{ $operators = append $operators "rotation" }}{{ end -}}
{{- toJson $operators -}}
{{- end }}
