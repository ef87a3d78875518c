{{/*
cluster.json: the cluster as the bootstrap, the shardmart command and the inventory plugin read it (shardmart/topology.py
writes the same shape on the embedded platform).
*/}}
{{- define "sharded-mongodb.cluster" -}}
{{- $root := . -}}
{{- $cluster := dict
  "name" (include "sharded-mongodb.fullname" .)
  "platform" "kind"
  "election" (dict "timeout_ms" (int .Values.election.timeoutMs) "heartbeat_ms" (int .Values.election.heartbeatMs))
  "zones" .Values.zones
  "tls" (ternary (dict "mode" .Values.tls.mode "renew_days" (int .Values.tls.renewDays)) (dict "mode" "disabled") .Values.tls.enabled) -}}
{{- $resolved := list -}}
{{- range (include "sharded-mongodb.sets" . | fromYamlArray) -}}
  {{- $set := . -}}
  {{- $members := list -}}
  {{- range $index, $member := .members -}}
    {{- $members = append $members (dict
      "name" ($set.memberName | replace "{n}" (toString (add1 $index)))
      "host" (include "sharded-mongodb.host" (dict "root" $root "name" $set.fullname "ordinal" (add1 $index)))
      "port" (int $root.Values.port)
      "priority" (float64 $member.priority)
      "votes" (int $member.votes)
      "hidden" $member.hidden
      "tags" $member.tags
      "cache_mb" (include "sharded-mongodb.cacheMB" $set.settings | int)) -}}
  {{- end -}}
  {{- $resolved = append $resolved (dict "name" .replicaSet "members" $members "zones" .zones) -}}
{{- end -}}
{{- $_ := set $cluster "config_servers" (omit (first $resolved) "zones") -}}
{{- $_ := set $cluster "shards" (rest $resolved) -}}
{{- $routers := list -}}
{{- range $ordinal := untilStep 1 (int (add1 .Values.routers.replicas)) 1 -}}
  {{- $routers = append $routers (dict
    "name" (($root.Values.routers.memberName | default (printf "%s-{n}" $root.Values.routers.name)) | replace "{n}" (toString $ordinal))
    "host" (include "sharded-mongodb.host" (dict "root" $root "name" (include "sharded-mongodb.routerName" $root) "ordinal" $ordinal))
    "port" (int $root.Values.port)) -}}
{{- end -}}
{{- $_ := set $cluster "routers" $routers -}}
{{- toPrettyJson $cluster -}}
{{- end -}}

{{/* The state folder of a pod that works on the cluster: the description, the inventory and its secrets. Takes {root, holder}. */}}
{{- define "sharded-mongodb.stateVolumes" -}}
- name: state
  projected:
    defaultMode: 0440
    sources:
      - configMap:
          name: {{ include "sharded-mongodb.fullname" .root }}-cluster
      - secret:
          name: {{ include "sharded-mongodb.keyfileSecret" .root }}
          items:
            {{- include "sharded-mongodb.heldSecrets" . | nindent 12 }}
      {{- if .root.Values.tls.enabled }}
      - secret:
          name: {{ include "sharded-mongodb.tlsSecret" .root }}
          items:
            - {key: {{ .root.Values.tls.keys.ca }}, path: tls/ca.pem}
      # What servers should be serving; the Secret of issuer "existing" may lack it.
      - secret:
          name: {{ include "sharded-mongodb.tlsSecret" .root }}
          optional: true
          items:
            - {key: {{ .root.Values.tls.keys.certificate }}, path: tls/server.crt}
      {{- end }}
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- with .root.Values.toolbox.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "sharded-mongodb.stateMounts" -}}
- name: state
  mountPath: /state
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- with .Values.toolbox.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
