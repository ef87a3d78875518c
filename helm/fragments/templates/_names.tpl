{{/* Names, labels and addresses. Every other template asks here. */}}

{{- define "fragments.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of a component's objects. Takes {root, component}. */}}
{{- define "fragments.name" -}}
{{- printf "%s-%s" (include "fragments.fullname" .root) .component -}}
{{- end -}}

{{/* Name of a node's objects. Takes {root, region}. */}}
{{- define "fragments.nodeName" -}}
{{- printf "%s-%s" (include "fragments.fullname" .root) (.region | lower | replace "_" "-") -}}
{{- end -}}

{{/* Where a node answers. Takes {root, region}. */}}
{{- define "fragments.nodeHost" -}}
{{- printf "%s.%s.svc.%s" (include "fragments.nodeName" .) .root.Release.Namespace .root.Values.clusterDomain -}}
{{- end -}}

{{/* Labels that selectors use: they never change during the life of a release. Takes {root, component, region (of a node)}. */}}
{{- define "fragments.selector" -}}
app.kubernetes.io/name: fragments
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .region }}
shardmart/region: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Labels that nobody else may set, as a JSON list. */}}
{{- define "fragments.ownLabels" -}}
{{- toJson (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" "shardmart/region") -}}
{{- end -}}

{{/* Labels of every object. Takes {root, component, region}. */}}
{{- define "fragments.labels" -}}
{{ include "fragments.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | trimSuffix "_" | trimSuffix "." }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Metadata of an object: takes {root, component, region, name (default: the component's), own (annotations)}. */}}
{{- define "fragments.metadata" -}}
metadata:
  name: {{ .name | default (include "fragments.name" .) | quote }}
  labels:
    {{- include "fragments.labels" . | nindent 4 }}
  {{- with mergeOverwrite (deepCopy (.root.Values.commonAnnotations | default dict)) (deepCopy (.own | default dict)) }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "fragments.image" -}}
{{- .repository -}}{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end -}}
{{- end -}}

{{- define "fragments.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "fragments.fullname" .) -}}
{{- end -}}

{{- define "fragments.authSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-auth" (include "fragments.fullname" .)) -}}
{{- end -}}
