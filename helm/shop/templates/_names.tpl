{{/* Names, labels, addresses and the components there are. Every other template asks here. */}}

{{- define "shop.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of a component's objects. Takes {root, component}. */}}
{{- define "shop.name" -}}
{{- printf "%s-%s" (include "shop.fullname" .root) .component -}}
{{- end -}}

{{/* Services of which there may be many pods, as a JSON list. */}}
{{- define "shop.scaled" -}}
{{- toJson (list "catalogue" "order" "inventory" "payment" "notification" "console") -}}
{{- end -}}

{{/* Settings of a service's pods: `pod`, and over it what the service says. Takes {root, component}. */}}
{{- define "shop.settingsOf" -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.pod) (deepCopy (get .root.Values.services .component))) -}}
{{- end -}}

{{/* Labels that selectors use: they never change during the life of a release. Takes {root, component}. */}}
{{- define "shop.selector" -}}
app.kubernetes.io/name: shop
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels that nobody else may set, as a JSON list. */}}
{{- define "shop.ownLabels" -}}
{{- toJson (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" "shardmart/cluster" "shardmart/ring-client") -}}
{{- end -}}

{{/* Labels of every object. Takes {root, component}. */}}
{{- define "shop.labels" -}}
{{ include "shop.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | trimSuffix "_" | trimSuffix "." }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Annotations of an object, `annotations:` included, or nothing. Takes {root, own (of this object, may be left out)}. */}}
{{- define "shop.annotations" -}}
{{- with mergeOverwrite (deepCopy (.root.Values.commonAnnotations | default dict)) (deepCopy (.own | default dict)) -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* Metadata of an object: takes {root, component, name (default: the component's), own (annotations)}. */}}
{{- define "shop.metadata" -}}
metadata:
  name: {{ .name | default (include "shop.name" .) | quote }}
  labels:
    {{- include "shop.labels" . | nindent 4 }}
  {{- include "shop.annotations" . | nindent 2 }}
{{- end -}}

{{- define "shop.image" -}}
{{- .repository -}}{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end -}}
{{- end -}}

{{- define "shop.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "shop.fullname" .) -}}
{{- end -}}

{{- define "shop.authSecret" -}}
{{- .Values.cluster.authSecret | default (printf "%s-auth" .Values.cluster.name) -}}
{{- end -}}

{{- define "shop.tlsSecret" -}}
{{- .Values.cluster.tls.secret | default (printf "%s-tls" .Values.cluster.name) -}}
{{- end -}}

{{/* Base URL of a service, or of all its pods at once. Takes {root, component, pods (bool)}. */}}
{{- define "shop.url" -}}
{{- $host := printf "%s%s" (include "shop.name" .) (ternary "-pods" "" (.pods | default false)) -}}
{{- printf "http://%s.%s.svc.%s:%d" $host .root.Release.Namespace .root.Values.clusterDomain (int (get .root.Values.services .component).port) -}}
{{- end -}}
