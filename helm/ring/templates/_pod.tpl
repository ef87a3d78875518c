{{/* What every pod of this chart shares: identity, security, scheduling, and the pod of a Job. */}}

{{/* Passes Pod Security "restricted". Takes {root, serviceAccount, settings, token}. */}}
{{- define "ring.podBasics" -}}
serviceAccountName: {{ .serviceAccount | default (include "ring.serviceAccount" .root) | quote }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .root.Values.securityContext.runAsUser }}
  runAsGroup: {{ .root.Values.securityContext.runAsGroup }}
  fsGroup: {{ .root.Values.securityContext.fsGroup }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.node.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.node.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.node.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "ring.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Keeps the servers of the ring apart. Takes {root}. */}}
{{- define "ring.placement" -}}
{{- $kind := .root.Values.node.antiAffinity -}}
{{- if ne $kind "none" }}
affinity:
  podAntiAffinity:
    {{- if eq $kind "hard" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "ring.selector" (dict "root" .root "component" "node") | nindent 12 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "ring.selector" (dict "root" .root "component" "node") | nindent 14 }}
    {{- end }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "ring.selector" (dict "root" .root "component" "node") | nindent 8 }}
{{- end -}}

{{/* Settings, password and, for the Jobs that make users, the keyfile, at /etc/ring. Takes {root, keyfile (bool)}. */}}
{{- define "ring.settingsVolume" -}}
- name: settings
  projected:
    # Read by the group that owns volumes, and by nobody else.
    defaultMode: 0440
    sources:
      - configMap:
          name: {{ include "ring.settingsName" .root }}
      - secret:
          name: {{ include "ring.authSecret" .root }}
          items:
            - {key: ring.password, path: ring.password}
            {{- if .keyfile }}
            - {key: keyfile, path: keyfile}
            {{- end }}
      {{- if .root.Values.tls.enabled }}
      - secret:
          name: {{ include "ring.tlsSecret" .root }}
          items:
            - {key: ca.crt, path: ca.crt}
      {{- end }}
{{- end -}}

{{/* The spec of a pod that runs one `shardmart ring` command. Takes {root, component, command, keyfile, serviceAccount, token,
renews (bool: it first has the certificate renewed if that is due)}. */}}
{{- define "ring.commandPod" -}}
{{- include "ring.podBasics" . }}
restartPolicy: Never
{{- if .renews }}
initContainers:
  - name: renew
    {{- include "ring.image" .root.Values.toolbox.image | nindent 4 }}
    command: [kubernetes-secrets, --application=ring, --instance={{ .root.Release.Name }}]
    args:
      {{- include "ring.certificateArguments" .root | nindent 6 }}
    resources:
      {{- toYaml .root.Values.toolbox.resources | nindent 6 }}
    securityContext:
      {{- include "ring.containerSecurity" . | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
{{- end }}
containers:
  - name: {{ .component }}
    {{- include "ring.image" .root.Values.toolbox.image | nindent 4 }}
    command: {{ toJson (concat (list "shardmart" "ring") .command (list "--settings=/etc/ring/settings.json")) }}
    terminationMessagePolicy: FallbackToLogsOnError
    resources:
      {{- toYaml .root.Values.toolbox.resources | nindent 6 }}
    securityContext:
      {{- include "ring.containerSecurity" . | nindent 6 }}
    volumeMounts:
      - {name: settings, mountPath: /etc/ring, readOnly: true}
      - {name: tmp, mountPath: /tmp}
volumes:
  {{- include "ring.settingsVolume" . | nindent 2 }}
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
{{- end -}}

{{/* Labels of a pod. Takes {root, component, server}. */}}
{{- define "ring.podLabels" -}}
{{ include "ring.selector" . }}
{{- with mergeOverwrite (deepCopy (.root.Values.commonLabels | default dict)) (deepCopy (.root.Values.node.podLabels | default dict)) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A NetworkPolicy. Takes {root, name, component, own, ingress (peers, a list), servers (bool: it reaches them), api (bool)}. */}}
{{- define "ring.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
{{ include "ring.metadata" . }}
spec:
  podSelector:
    matchLabels:
      {{- include "ring.selector" (dict "root" .root "component" .component) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- with .ingress }}
  ingress:
    - from:
        {{- toYaml . | nindent 8 }}
      ports:
        - {port: {{ $.root.Values.port }}, protocol: TCP}
  {{- end }}
  {{- if or .servers .api }}
  egress:
    - to:
        - namespaceSelector: {}
          podSelector:
            matchLabels:
              k8s-app: kube-dns
      ports:
        - {port: 53, protocol: UDP}
        - {port: 53, protocol: TCP}
    {{- if .servers }}
    - to:
        {{- range (list "node" "store") }}
        - podSelector:
            matchLabels:
              {{- include "ring.selector" (dict "root" $.root "component" .) | nindent 14 }}
        {{- end }}
      ports:
        - {port: {{ .root.Values.port }}, protocol: TCP}
    {{- end }}
    {{- if .api }}
    # The Kubernetes API, whose address no policy can know.
    - ports:
        {{- range .root.Values.networkPolicy.apiServerPorts }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
    {{- end }}
  {{- end }}
{{- end -}}
