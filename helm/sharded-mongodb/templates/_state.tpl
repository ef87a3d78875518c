{{/*
release.json: what this chart knows of its release, with every default applied. From it shardmart/declare/release.py makes
the description of the cluster; no other template knows what a description looks like.
*/}}
{{- define "sharded-mongodb.release" -}}
{{- $sets := list -}}
{{- range (include "sharded-mongodb.sets" . | fromYamlArray) -}}
{{- $sets = append $sets (merge (dict "cacheMB" (include "sharded-mongodb.cacheMB" .settings | int)) (pick . "name" "replicaSet" "memberName" "members" "zones")) -}}
{{- end -}}
{{- dict
  "version" 1
  "release" (dict "name" .Release.Name "namespace" .Release.Namespace "fullname" (include "sharded-mongodb.fullname" .) "cluster_domain" .Values.clusterDomain "port" (int .Values.port))
  "sets" $sets
  "routers" (pick .Values.routers "name" "memberName" "replicas")
  "tls" (pick .Values.tls "enabled" "mode" "names" "validityDays" "renewDays")
  | merge (pick .Values "clusterName" "zones" "election") (ternary (pick .Values "shop") dict .Values.shop.enabled) | toPrettyJson -}}
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
      {{- $shop := .root.Values.shop.name | default (printf "%s-shop" (include "sharded-mongodb.fullname" .root)) }}
      {{- if and (eq .holder "toolbox") .root.Values.shop.enabled .root.Values.shop.cache .root.Values.shop.cacheTls .root.Values.tls.enabled }}
      # `shardmart status` and the ledger ask the cache; the shop's release, which comes later, has the Secret.
      - secret:
          name: {{ .root.Values.shop.cacheTlsSecret | default (printf "%s-cache-tls" $shop) }}
          optional: true
          items:
            - {key: ca.crt, path: tls/shop-cache-ca.pem}
      {{- end }}
      {{- if and (eq .holder "toolbox") .root.Values.shop.enabled .root.Values.shop.postgres.store }}
      {{- $postgres := printf "%s-postgres" $shop }}
      # The ledger reads the shop's store; the shop's release, which comes later, has the Secrets.
      - secret:
          name: {{ .root.Values.shop.postgres.authSecret | default $postgres }}
          optional: true
          items:
            - {key: shop-postgres-ledger.password, path: secrets/shop-postgres-ledger.password}
      {{- /* Of a server that is given nobody but who gave it knows the authority; one of our own that was kept is not its. */}}
      {{- if or .root.Values.shop.postgres.tlsSecret (not .root.Values.shop.postgres.host) }}
      - secret:
          name: {{ .root.Values.shop.postgres.tlsSecret | default (printf "%s-tls" $postgres) }}
          optional: true
          items:
            - {key: ca.crt, path: tls/shop-postgres-ca.pem}
      {{- end }}
      {{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ ternary .root.Values.toolbox.scratchSize "256Mi" (eq .holder "toolbox") }}
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
