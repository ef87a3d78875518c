{{/* Names, labels and addresses. Every other template asks here, so that a name is made in one place only. */}}

{{- define "sharded-mongodb.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that selectors use: they never change during the life of a release. Takes {root, component}. */}}
{{- define "sharded-mongodb.selector" -}}
app.kubernetes.io/name: sharded-mongodb
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .set }}
shardmart/replica-set: {{ .replicaSet | quote }}
{{- end }}
{{- end -}}

{{/* Labels that nobody else may set, as a JSON list. */}}
{{- define "sharded-mongodb.ownLabels" -}}
{{- toJson (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" "shardmart/replica-set") -}}
{{- end -}}

{{/* Labels of every object. Takes {root, component, set, more (of this object)}. */}}
{{- define "sharded-mongodb.labels" -}}
{{ include "sharded-mongodb.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | trimSuffix "_" | trimSuffix "." }}
{{- with mergeOverwrite (deepCopy (.root.Values.commonLabels | default dict)) (deepCopy (.more | default dict)) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Annotations of an object, `annotations:` included, or nothing. Takes {root, own (of this object, may be left out)}. */}}
{{- define "sharded-mongodb.annotations" -}}
{{- with mergeOverwrite (deepCopy (.root.Values.commonAnnotations | default dict)) (deepCopy (.own | default dict)) -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "sharded-mongodb.image" -}}
{{- .repository -}}{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end -}}
{{- end -}}

{{/* Host name of a pod: takes {root, name (of the StatefulSet), ordinal}. */}}
{{- define "sharded-mongodb.host" -}}
{{- printf "%s-%d.%s.%s.svc.%s" .name (int .ordinal) .name .root.Release.Namespace .root.Values.clusterDomain -}}
{{- end -}}

{{/* What --configdb takes: the config servers' set and every member's address. */}}
{{- define "sharded-mongodb.configdb" -}}
{{- $root := . -}}
{{- $sets := include "sharded-mongodb.sets" . | fromYamlArray -}}
{{- $config := first $sets -}}
{{- $hosts := list -}}
{{- range $ordinal := untilStep 1 (int (add1 $config.count)) 1 -}}
{{- $hosts = append $hosts (printf "%s:%d" (include "sharded-mongodb.host" (dict "root" $root "name" $config.fullname "ordinal" $ordinal)) (int $root.Values.port)) -}}
{{- end -}}
{{- $config.replicaSet -}}/{{- join "," $hosts -}}
{{- end -}}

{{- define "sharded-mongodb.routerName" -}}
{{- printf "%s-%s" (include "sharded-mongodb.fullname" .) .Values.routers.name -}}
{{- end -}}

{{- define "sharded-mongodb.keyfileSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-auth" (include "sharded-mongodb.fullname" .)) -}}
{{- end -}}

{{- define "sharded-mongodb.tlsSecret" -}}
{{- .Values.tls.existingSecret | default (printf "%s-tls" (include "sharded-mongodb.fullname" .)) -}}
{{- end -}}

{{/* Arguments of kubernetes-secrets for the certificate of issuer "own". */}}
{{- define "sharded-mongodb.certificateArguments" -}}
- --tls-secret={{ include "sharded-mongodb.tlsSecret" . }}
- --validity-days={{ .Values.tls.validityDays }}
- --renew-days={{ .Values.tls.renewDays }}
{{- range concat (include "sharded-mongodb.dnsNames" . | fromYamlArray) (rest (include "sharded-mongodb.ipAddresses" . | fromYamlArray)) }}
- {{ printf "--dns-name=%s" . | quote }}
{{- end }}
{{- end -}}

{{/* DNS names a server certificate must carry: one wildcard per StatefulSet, the Service for clients, and this pod. */}}
{{- define "sharded-mongodb.dnsNames" -}}
{{- $root := . -}}
{{- $domain := printf "%s.svc.%s" .Release.Namespace .Values.clusterDomain -}}
{{- range (include "sharded-mongodb.sets" . | fromYamlArray) }}
- "*.{{ .fullname }}.{{ $domain }}"
{{- end }}
- "*.{{ include "sharded-mongodb.routerName" . }}.{{ $domain }}"
- "{{ include "sharded-mongodb.routerName" . }}.{{ $domain }}"
- "{{ include "sharded-mongodb.fullname" . }}.{{ $domain }}"
- "{{ include "sharded-mongodb.fullname" . }}.{{ .Release.Namespace }}.svc"
- "{{ include "sharded-mongodb.fullname" . }}.{{ .Release.Namespace }}"
- "{{ include "sharded-mongodb.fullname" . }}"
- localhost
{{- range .Values.tls.names }}
{{- if not (regexMatch "^[0-9.]+$|:" .) }}
- {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* And addresses: loopback's first, which kubernetes-secrets adds by itself. */}}
{{- define "sharded-mongodb.ipAddresses" -}}
- 127.0.0.1
{{- range .Values.tls.names }}
{{- if regexMatch "^[0-9.]+$|:" . }}
- {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}
