{{/* What the Jobs have in common that work on the cluster from the toolbox image. Takes {root, component, settings, command}. */}}
{{- define "sharded-mongodb.jobSpec" -}}
backoffLimit: {{ .settings.backoffLimit }}
activeDeadlineSeconds: {{ .settings.deadlineSeconds }}
template:
  metadata:
    {{- include "sharded-mongodb.podMetadata" (merge (dict "checksum" (include "sharded-mongodb.release" .root | sha256sum | trunc 16)) .) | nindent 4 }}
  spec:
    {{- include "sharded-mongodb.podBasics" . | nindent 4 }}
    restartPolicy: Never
    containers:
      - name: {{ .component }}
        {{- include "sharded-mongodb.containerImage" (dict "image" .root.Values.toolbox.image) | nindent 8 }}
        workingDir: /opt/shardmart
        command: {{ toJson .command }}
        {{- with .settings.extraEnv }}
        env:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        resources:
          {{- toYaml .settings.resources | nindent 10 }}
        securityContext:
          {{- include "sharded-mongodb.containerSecurity" .root | nindent 10 }}
        volumeMounts:
          {{- include "sharded-mongodb.stateMounts" .root | nindent 10 }}
    volumes:
      {{- include "sharded-mongodb.stateVolumes" (dict "root" .root "holder" .component) | nindent 6 }}
{{- end }}
