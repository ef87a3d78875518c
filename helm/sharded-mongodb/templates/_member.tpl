{{/* The StatefulSet of one replica set: config servers and shards alike. Takes {root, set}. */}}
{{- define "sharded-mongodb.member" -}}
{{- $root := .root -}}
{{- $set := .set -}}
{{- $settings := $set.settings -}}
{{- $context := dict "root" $root "component" $set.component "set" $set "settings" $settings -}}
{{- $conf := include "sharded-mongodb.mongodConf" (dict "root" $root "set" $set) -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $set.fullname }}
  labels:
    {{- include "sharded-mongodb.labels" $context | nindent 4 }}
  {{- /* A shard must be drained before its members go: GitOps may not prune it by itself. */}}
  {{- include "sharded-mongodb.annotations" (dict "root" $root "own" (dict "argocd.argoproj.io/sync-options" "Prune=false")) | nindent 2 }}
spec:
  replicas: {{ $set.count }}
  ordinals:
    start: 1
  serviceName: {{ $set.fullname }}
  # All members start together, because a set needs a majority of them; rolling updates still go one by one.
  podManagementPolicy: Parallel
  minReadySeconds: {{ $settings.minReadySeconds }}
  revisionHistoryLimit: 5
  updateStrategy:
    type: {{ $settings.updateStrategy }}
  persistentVolumeClaimRetentionPolicy:
    whenDeleted: Retain
    whenScaled: Retain
  selector:
    matchLabels:
      {{- include "sharded-mongodb.selector" $context | nindent 6 }}
  template:
    metadata:
      {{- include "sharded-mongodb.podMetadata" (merge (dict "checksum" ($conf | sha256sum | trunc 16)) $context) | nindent 6 }}
    spec:
      {{- include "sharded-mongodb.podBasics" $context | nindent 6 }}
      {{- include "sharded-mongodb.placement" $context | nindent 6 }}
      terminationGracePeriodSeconds: {{ $settings.terminationGracePeriodSeconds }}
      {{- with $settings.extraInitContainers }}
      initContainers:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: mongod
          {{- include "sharded-mongodb.containerImage" (dict "image" $root.Values.image) | nindent 10 }}
          command: [/etc/mongodb/scripts/start-member.sh, mongod]
          args:
            - --config=/etc/mongodb/{{ $set.name }}.conf
            {{- range $settings.extraArgs }}
            - {{ . | quote }}
            {{- end }}
          env:
            - name: STEP_DOWN_SECONDS
              value: {{ $settings.stepDownSeconds | quote }}
            # Per-CPU caches of the allocator need this since MongoDB 8.0; older servers do not mind.
            - name: GLIBC_TUNABLES
              value: glibc.pthread.rseq=0
            {{- include "sharded-mongodb.serverEnv" $context | nindent 12 }}
          ports:
            - name: mongodb
              containerPort: {{ $root.Values.port }}
          startupProbe:
            {{- include "sharded-mongodb.probe" (dict "ask" (list "alive") "timing" $settings.startupProbe) | nindent 12 }}
          livenessProbe:
            {{- include "sharded-mongodb.probe" (dict "ask" (list "alive") "timing" $settings.livenessProbe) | nindent 12 }}
          readinessProbe:
            {{- include "sharded-mongodb.probe" (dict "ask" (list "member") "timing" $settings.readinessProbe) | nindent 12 }}
          lifecycle:
            preStop:
              exec:
                command: [/etc/mongodb/scripts/step-down.sh]
          resources:
            {{- toYaml $settings.resources | nindent 12 }}
          securityContext:
            {{- include "sharded-mongodb.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - name: data
              mountPath: /data/db
            - name: configuration
              mountPath: /etc/mongodb/{{ $set.name }}.conf
              subPath: {{ $set.name }}.conf
              readOnly: true
            {{- include "sharded-mongodb.serverMounts" $context | nindent 12 }}
        {{- with $settings.sidecars }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      volumes:
        - name: configuration
          configMap:
            name: {{ include "sharded-mongodb.fullname" $root }}-mongod
        {{- include "sharded-mongodb.serverVolumes" $context | nindent 8 }}
  volumeClaimTemplates:
    - metadata:
        name: data
        {{- with $settings.storage.annotations }}
        annotations:
          {{- toYaml . | nindent 10 }}
        {{- end }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $settings.storage.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ $settings.storage.size }}
{{- end -}}

{{/* Headless Service of a set: gives every member its name, before it is ready too, or the set could never form. */}}
{{- define "sharded-mongodb.headless" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  labels:
    {{- include "sharded-mongodb.labels" . | nindent 4 }}
  {{- include "sharded-mongodb.annotations" (dict "root" .root) | nindent 2 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "sharded-mongodb.selector" . | nindent 4 }}
  ports:
    - name: mongodb
      port: {{ .root.Values.port }}
      targetPort: mongodb
{{- end -}}

{{/* Disruption budget of a set: evictions may never cost the majority of its voting members. Takes {root, set}. */}}
{{- define "sharded-mongodb.budget" -}}
{{- if .set.settings.disruptionBudget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .set.fullname }}
  labels:
    {{- include "sharded-mongodb.labels" . | nindent 4 }}
  {{- include "sharded-mongodb.annotations" (dict "root" .root) | nindent 2 }}
spec:
  {{- $declared := .set.settings.disruptionBudget.maxUnavailable }}
  maxUnavailable: {{ ternary (div (sub .set.voters 1) 2) $declared (kindIs "invalid" $declared) }}
  selector:
    matchLabels:
      {{- include "sharded-mongodb.selector" . | nindent 6 }}
{{- end -}}
{{- end -}}
