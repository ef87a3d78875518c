{{/* What every pod of this chart shares: identity, security, scheduling. Nothing here knows what a pod is for. */}}

{{/* Passes Pod Security "restricted". */}}
{{- define "sharded-mongodb.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.securityContext.runAsUser }}
runAsGroup: {{ .Values.securityContext.runAsGroup }}
fsGroup: {{ .Values.securityContext.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "sharded-mongodb.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Image and pull policy of a container. Takes {root, image}. */}}
{{- define "sharded-mongodb.containerImage" -}}
image: {{ include "sharded-mongodb.image" .image | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- end -}}

{{/* The part of a pod's spec that is the same for every pod. Takes {root, settings}. */}}
{{- define "sharded-mongodb.podBasics" -}}
serviceAccountName: {{ .serviceAccount | default (include "sharded-mongodb.serviceAccount" .root) | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "sharded-mongodb.podSecurity" .root | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Keeps the pods of one set apart. Takes {root, settings, component, set}. */}}
{{- define "sharded-mongodb.placement" -}}
{{- if .settings.affinity }}
affinity:
  {{- toYaml .settings.affinity | nindent 2 }}
{{- else if eq .settings.antiAffinity "hard" }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "sharded-mongodb.selector" . | nindent 12 }}
{{- else if eq .settings.antiAffinity "soft" }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "sharded-mongodb.selector" . | nindent 14 }}
{{- end }}
{{- if .settings.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml .settings.topologySpreadConstraints | nindent 2 }}
{{- else }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sharded-mongodb.selector" . | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Environment that probe.sh and step-down.sh read. Takes {root, settings}. */}}
{{- define "sharded-mongodb.serverEnv" -}}
- name: PORT
  value: {{ .root.Values.port | quote }}
{{- if .root.Values.tls.enabled }}
- name: TLS
  value: "1"
{{- end }}
{{- with .settings.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Mounts that a mongod and a mongos share. Takes {root, settings}. */}}
{{- define "sharded-mongodb.serverMounts" -}}
- name: scripts
  mountPath: /etc/mongodb/scripts
  readOnly: true
- name: auth
  mountPath: /etc/mongodb/auth
  readOnly: true
{{- if .root.Values.tls.enabled }}
- name: tls
  mountPath: /etc/mongodb/tls
  readOnly: true
{{- end }}
- name: run
  mountPath: /run/mongodb
- name: tmp
  mountPath: /tmp
{{- with .settings.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "sharded-mongodb.serverVolumes" -}}
- name: scripts
  configMap:
    name: {{ include "sharded-mongodb.fullname" .root }}-scripts
    defaultMode: 0555
- name: auth
  secret:
    secretName: {{ include "sharded-mongodb.keyfileSecret" .root }}
    defaultMode: 0400
    items:
      - key: keyfile
        path: keyfile
{{- if .root.Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "sharded-mongodb.tlsSecret" .root }}
    defaultMode: 0400
    items:
      - key: {{ .root.Values.tls.keys.pem }}
        path: {{ .root.Values.tls.keys.pem }}
      - key: {{ .root.Values.tls.keys.ca }}
        path: {{ .root.Values.tls.keys.ca }}
{{- end }}
- name: run
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with .settings.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Metadata of a pod template. Takes {root, component, set, settings, checksum}. */}}
{{- define "sharded-mongodb.podMetadata" -}}
labels:
  {{- include "sharded-mongodb.selector" . | nindent 2 }}
  {{- with mergeOverwrite (deepCopy (.root.Values.commonLabels | default dict)) (deepCopy (.settings.podLabels | default dict)) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  {{- $own := dict "shardmart/configuration" (.checksum | toString) }}
  {{- toYaml (mergeOverwrite (deepCopy (.settings.podAnnotations | default dict)) $own) | nindent 2 }}
{{- end -}}

{{- define "sharded-mongodb.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "sharded-mongodb.fullname" .) -}}
{{- end -}}

{{/* Probe timings. Takes the probe's settings and the question probe.sh is asked. */}}
{{- define "sharded-mongodb.probe" -}}
exec:
  command: [/etc/mongodb/scripts/probe.sh, {{ join ", " .ask }}]
periodSeconds: {{ .timing.periodSeconds }}
timeoutSeconds: {{ .timing.timeoutSeconds }}
failureThreshold: {{ .timing.failureThreshold }}
{{- end -}}
