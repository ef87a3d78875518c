{{/*
Users, who holds which secret, and the zones of the data model: files/declared.json, which `make render` writes from
src/shardmart/declare. They are no values, because the playbooks of the toolbox image make exactly these.
*/}}
{{- define "sharded-mongodb.declared" -}}
{{- .Files.Get "files/declared.json" -}}
{{- end -}}

{{/* The items of the auth Secret that a component mounts, below secrets/. Takes {root, holder}. */}}
{{- define "sharded-mongodb.heldSecrets" -}}
{{- $declared := include "sharded-mongodb.declared" .root | fromJson -}}
{{- $held := get $declared.held_by .holder -}}
{{- if .root.Values.shop.enabled }}{{ $held = concat $held (get $declared.shop.held_by .holder | default list) }}{{ end -}}
{{- range $held }}
- {key: {{ . }}, path: secrets/{{ . }}}
{{- end }}
{{- end -}}
