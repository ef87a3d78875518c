{{/* Names, labels, addresses, and the servers there are. Every other template asks here. */}}

{{- define "ring.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The servers, as a JSON list of {name (in the ring), component}: the store of the membership, then the nodes. */}}
{{- define "ring.servers" -}}
{{- $found := list (dict "name" "store" "component" "store") -}}
{{- range $n, $_ := .Values.ring.nodes -}}
{{- $found = append $found (dict "name" (printf "%s-%d" $.Values.ring.name (int (add1 $n))) "component" "node") -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Name of a server's StatefulSet, Service and volume. Takes {root, name}. */}}
{{- define "ring.server" -}}
{{- if eq .name "store" }}{{ include "ring.fullname" .root }}-store{{ else }}{{ include "ring.fullname" .root }}-{{ trimPrefix (printf "%s-" .root.Values.ring.name) .name }}{{ end -}}
{{- end -}}

{{/* Labels that selectors use: they never change during the life of a release. Takes {root, component, server}. */}}
{{- define "ring.selector" -}}
app.kubernetes.io/name: ring
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .server }}
shardmart/ring-server: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Labels that nobody else may set, as a JSON list. */}}
{{- define "ring.ownLabels" -}}
{{- toJson (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" "shardmart/ring-server") -}}
{{- end -}}

{{/* Metadata of an object: takes {root, name, component, server, own (annotations)}. */}}
{{- define "ring.metadata" -}}
metadata:
  name: {{ .name | quote }}
  labels:
    {{- include "ring.selector" . | nindent 4 }}
    app.kubernetes.io/version: {{ .root.Chart.AppVersion | replace "+" "_" | quote }}
    app.kubernetes.io/managed-by: {{ .root.Release.Service }}
    helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | trimSuffix "_" | trimSuffix "." }}
    {{- with .root.Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with mergeOverwrite (deepCopy (.root.Values.commonAnnotations | default dict)) (deepCopy (.own | default dict)) }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "ring.image" -}}
image: {{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
imagePullPolicy: {{ .pullPolicy }}
{{- end -}}

{{- define "ring.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "ring.fullname" .) -}}
{{- end -}}

{{/* Secret with the servers' keyfile and the password of their one user. */}}
{{- define "ring.authSecret" -}}
{{- include "ring.fullname" . }}-auth
{{- end -}}

{{/* Secret with the servers' certificate and key in one file, and ca.crt. */}}
{{- define "ring.tlsSecret" -}}
{{- .Values.tls.existingSecret | default (printf "%s-tls" (include "ring.fullname" .)) -}}
{{- end -}}

{{/* "yes" where this chart has the certificate made, by an authority of the release's own. */}}
{{- define "ring.ownCertificate" -}}
{{- if and .Values.tls.enabled (eq .Values.tls.issuer "own") }}yes{{ end -}}
{{- end -}}

{{/* Arguments of kubernetes-secrets for it: every server's Service, by its short and its full name. */}}
{{- define "ring.certificateArguments" -}}
- --tls-secret={{ include "ring.tlsSecret" . }}
- --validity-days={{ .Values.tls.validityDays }}
- --renew-days={{ .Values.tls.renewDays }}
- --dns-name=localhost
{{- range (include "ring.servers" . | fromJsonArray) }}
{{- $name := include "ring.server" (dict "root" $ "name" .name) }}
- --dns-name={{ $name }}
- --dns-name={{ $name }}.{{ $.Release.Namespace }}.svc.{{ $.Values.clusterDomain }}
{{- end }}
{{- end -}}

{{/* ConfigMap with the settings that clients are given, without a secret. */}}
{{- define "ring.settingsName" -}}
{{- include "ring.fullname" . }}-settings
{{- end -}}

{{/* Connection string of a server, with `{password}`, and `{folder}` of the settings file. Takes {root, name}. */}}
{{- define "ring.uri" -}}
mongodb://ring:{password}@{{ include "ring.server" . }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}:{{ .root.Values.port }}/?authSource=admin{{ if .root.Values.tls.enabled }}&tls=true&tlsCAFile={folder}/ca.crt{{ end }}
{{- end -}}

{{/* The settings file (src/shardmart/ring/settings.py). */}}
{{- define "ring.settings" -}}
{{- $nodes := dict -}}
{{- range (include "ring.servers" . | fromJsonArray) }}{{ if ne .name "store" }}{{ $_ := set $nodes .name (include "ring.uri" (dict "root" $ "name" .name)) }}{{ end }}{{ end -}}
{{- dict "name" .Values.ring.name "nodes" $nodes "store" (include "ring.uri" (dict "root" . "name" "store")) "timeout_seconds" .Values.ring.timeoutSeconds "password_file" "ring.password" | toPrettyJson -}}
{{- end -}}
