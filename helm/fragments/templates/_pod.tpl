{{/* What every pod of this chart shares: identity, security, scheduling; and the pod that runs `shardmart fragments`. */}}

{{/* Passes Pod Security "restricted". */}}
{{- define "fragments.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.securityContext.runAsUser }}
runAsGroup: {{ .Values.securityContext.runAsGroup }}
fsGroup: {{ .Values.securityContext.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "fragments.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The part of a pod's spec that is the same for every pod. Takes {root, settings}. */}}
{{- define "fragments.podBasics" -}}
serviceAccountName: {{ .serviceAccount | default (include "fragments.serviceAccount" .root) | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "fragments.podSecurity" .root | nindent 2 }}
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

{{/* Keeps the nodes of the regions apart. Takes {root}. */}}
{{- define "fragments.placement" -}}
{{- $settings := .root.Values.node -}}
{{- $every := dict "root" .root "component" "node" -}}
{{- if $settings.affinity }}
affinity:
  {{- toYaml $settings.affinity | nindent 2 }}
{{- else if eq $settings.antiAffinity "hard" }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "fragments.selector" $every | nindent 12 }}
{{- else if eq $settings.antiAffinity "soft" }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "fragments.selector" $every | nindent 14 }}
{{- end }}
{{- if $settings.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml $settings.topologySpreadConstraints | nindent 2 }}
{{- else }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "fragments.selector" $every | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Metadata of a pod template. Takes {root, component, region, settings, checksum (may be left out), own (annotations)}. */}}
{{- define "fragments.podMetadata" -}}
labels:
  {{- include "fragments.selector" . | nindent 2 }}
  {{- with mergeOverwrite (deepCopy (.root.Values.commonLabels | default dict)) (deepCopy (.settings.podLabels | default dict)) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $own := ternary (dict "shardmart/configuration" .checksum) dict (not (empty .checksum)) }}
{{- with mergeOverwrite (deepCopy (.settings.podAnnotations | default dict)) $own (deepCopy (.own | default dict)) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A container that runs one `shardmart fragments` command. Takes {root, name, command}. */}}
{{- define "fragments.commandContainer" -}}
name: {{ .name }}
image: {{ include "fragments.image" .root.Values.toolbox.image | quote }}
imagePullPolicy: {{ .root.Values.toolbox.image.pullPolicy }}
command: {{ toJson (concat (list "shardmart" "fragments") .command) }}
env:
  - {name: SHARDMART_FRAGMENTS, value: /state/fragments.json}
  {{- with .root.Values.toolbox.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
terminationMessagePolicy: FallbackToLogsOnError
resources:
  {{- toYaml .root.Values.toolbox.resources | nindent 2 }}
securityContext:
  {{- include "fragments.containerSecurity" .root | nindent 2 }}
volumeMounts:
  - {name: state, mountPath: /state, readOnly: true}
  - {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* What such a container mounts: where the stores are, their passwords, the authority of the cluster. Takes {root}. */}}
{{- define "fragments.commandVolumes" -}}
- name: state
  projected:
    # Read by the group that owns volumes, and by nobody else.
    defaultMode: 0440
    sources:
      - configMap:
          name: {{ include "fragments.name" (dict "root" .root "component" "configuration") }}
          items:
            - {key: fragments.json, path: fragments.json}
      - secret:
          name: {{ include "fragments.authSecret" .root }}
          items:
            {{- range (include "fragments.passwords" .root | fromJsonArray) }}
            - {key: {{ . }}, path: secrets/{{ . }}}
            {{- end }}
      {{- if .root.Values.tls.enabled }}
      - secret:
          name: {{ include "fragments.tlsSecret" .root }}
          items:
            - {key: {{ .root.Values.tls.keys.ca }}, path: tls/fragments-ca.pem}
      {{- end }}
      {{- if and .root.Values.mongodb.enabled .root.Values.mongodb.tls.enabled }}
      - secret:
          name: {{ .root.Values.mongodb.tls.secret | default (printf "%s-tls" .root.Values.mongodb.cluster) }}
          items:
            - {key: {{ .root.Values.mongodb.tls.ca }}, path: tls/ca.pem}
      {{- end }}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- end -}}
