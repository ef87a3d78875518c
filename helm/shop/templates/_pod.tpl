{{/* What every pod of this chart shares: identity, security, scheduling, and the pod of a service. */}}

{{/* Passes Pod Security "restricted". */}}
{{- define "shop.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.securityContext.runAsUser }}
runAsGroup: {{ .Values.securityContext.runAsGroup }}
fsGroup: {{ .Values.securityContext.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "shop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The part of a pod's spec that is the same for every pod. Takes {root, settings, serviceAccount (default: the one without any right)}. */}}
{{- define "shop.podBasics" -}}
serviceAccountName: {{ .serviceAccount | default (include "shop.serviceAccount" .root) | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "shop.podSecurity" .root | nindent 2 }}
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

{{/* Keeps the pods of one service apart. Takes {root, settings, component}. */}}
{{- define "shop.placement" -}}
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
            {{- include "shop.selector" . | nindent 12 }}
{{- else if eq .settings.antiAffinity "soft" }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "shop.selector" . | nindent 14 }}
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
        {{- include "shop.selector" . | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Metadata of a pod template. Takes {root, component, settings, checksum (of its configuration; may be left out)}. */}}
{{- define "shop.podMetadata" -}}
labels:
  {{- include "shop.selector" . | nindent 2 }}
  # By it the cluster's routers know who may connect.
  shardmart/cluster: {{ .root.Values.cluster.name | quote }}
  {{- if has .component (include "shop.cartServices" .root | fromJsonArray) }}
  # By it the ring's nodes do.
  shardmart/ring-client: "true"
  {{- end }}
  {{- with mergeOverwrite (deepCopy (.root.Values.commonLabels | default dict)) (deepCopy (.settings.podLabels | default dict)) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $own := ternary (dict "shardmart/configuration" .checksum) dict (not (empty .checksum)) }}
{{- with mergeOverwrite (deepCopy (.settings.podAnnotations | default dict)) $own }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "shop.probe" -}}
httpGet: {path: {{ .path }}, port: http}
periodSeconds: {{ .timing.periodSeconds }}
timeoutSeconds: {{ .timing.timeoutSeconds }}
failureThreshold: {{ .timing.failureThreshold }}
{{- end -}}

{{/*
The pod template of a service. Takes {root, component}. There is no preStop: told to stop, an instance itself goes on serving
for drainSeconds while /readyz says 503 and answers ask for the connection to be closed.
*/}}
{{- define "shop.servicePod" -}}
{{- $settings := include "shop.settingsOf" . | fromYaml -}}
{{- $context := dict "root" .root "component" .component "settings" $settings -}}
metadata:
  {{- include "shop.podMetadata" (merge (dict "checksum" (include "shop.settings" . | sha256sum | trunc 16)) $context) | nindent 2 }}
spec:
  {{- include "shop.podBasics" $context | nindent 2 }}
  {{- include "shop.placement" $context | nindent 2 }}
  terminationGracePeriodSeconds: {{ $settings.terminationGracePeriodSeconds }}
  containers:
    - name: {{ .component }}
      image: {{ include "shop.image" .root.Values.image | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args:
        - run
        - {{ .component }}
        - --config=/etc/shop/settings.json
        - {{ ternary "--host=" "--host=0.0.0.0" .root.Values.ipv6 | quote }}
        - --port={{ $settings.port }}
        - --instance=$(POD)
      env:
        - name: POD
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        {{- with $settings.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: http, containerPort: {{ $settings.port }}, protocol: TCP}
      startupProbe:
        {{- include "shop.probe" (dict "path" "/healthz" "timing" $settings.startupProbe) | nindent 8 }}
      livenessProbe:
        {{- include "shop.probe" (dict "path" "/healthz" "timing" $settings.livenessProbe) | nindent 8 }}
      readinessProbe:
        {{- include "shop.probe" (dict "path" "/readyz" "timing" $settings.readinessProbe) | nindent 8 }}
      resources:
        {{- toYaml $settings.resources | nindent 8 }}
      securityContext:
        {{- include "shop.containerSecurity" .root | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /etc/shop, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- if eq .component "provider" }}
        - {name: data, mountPath: /data}
        {{- end }}
  volumes:
    {{- include "shop.settingsVolume" . | nindent 4 }}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
{{- end -}}

{{/* A Job that nobody starts but a person or a play, with another one's pod. Takes {root, component, settings, pod}. */}}
{{- define "shop.onDemand" -}}
apiVersion: batch/v1
kind: CronJob
{{ include "shop.metadata" . }}
spec:
  # Suspended for good: Kubernetes wants a time all the same.
  suspend: true
  schedule: "0 0 1 1 *"
  jobTemplate:
    spec:
      backoffLimit: 6
      # Who starts it waits as long as they like, and removes it.
      activeDeadlineSeconds: 86400
      template:
        metadata:
          {{- include "shop.podMetadata" . | nindent 10 }}
        spec:
          {{- .pod | nindent 10 }}
{{- end -}}

{{/*
A pod of seconds that runs one `shardmart shop` command with a service's settings. Takes {root, component, of, command, administrator
(whether it has the password of PostgreSQL's, too)}.
*/}}
{{- define "shop.commandPod" -}}
{{- include "shop.podBasics" (dict "root" .root "settings" .root.Values.pod) }}
restartPolicy: Never
containers:
  - name: {{ .component }}
    image: {{ include "shop.image" .root.Values.image | quote }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args: {{ toJson (append .command "--config=/etc/shop/settings.json") }}
    terminationMessagePolicy: FallbackToLogsOnError
    resources:
      {{- toYaml .root.Values.pod.resources | nindent 6 }}
    securityContext:
      {{- include "shop.containerSecurity" .root | nindent 6 }}
    volumeMounts:
      - {name: settings, mountPath: /etc/shop, readOnly: true}
      - {name: tmp, mountPath: /tmp}
volumes:
  {{- include "shop.settingsVolume" (dict "root" .root "component" .of) | nindent 2 }}
      {{- if .administrator }}
      {{- include "shop.postgresAdministrator" . | trim | nindent 8 }}
      {{- end }}
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
{{- end -}}
