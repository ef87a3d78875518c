{{/* The one place where values that a schema cannot judge are refused, all at once and in words. */}}
{{- define "ring.validate" -}}
{{- $problems := list -}}
{{- $fullname := include "ring.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
  {{- $problems = append $problems (printf "the release's name %q begins the names of Services, which take lower-case letters, digits and dashes, and a letter first: set fullnameOverride" $fullname) -}}
{{- end -}}
{{- if gt (int .Values.ring.copies) (len .Values.ring.nodes) -}}
  {{- $problems = append $problems (printf "ring.copies is %d, and ring.nodes has %d: one copy a node at most" (int .Values.ring.copies) (len .Values.ring.nodes)) -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
  {{- if and (eq .Values.tls.issuer "existing") (not .Values.tls.existingSecret) -}}
    {{- $problems = append $problems "tls.existingSecret: issuer \"existing\" needs the name of a Secret" -}}
  {{- end -}}
  {{- if and .Values.tls.existingSecret (ne .Values.tls.issuer "existing") -}}
    {{- $problems = append $problems "tls.existingSecret: is used only with tls.issuer \"existing\"" -}}
  {{- end -}}
  {{- if ge (int .Values.tls.renewDays) (int .Values.tls.validityDays) -}}
    {{- $problems = append $problems "tls.renewDays: must be less than tls.validityDays, or every run would renew" -}}
  {{- end -}}
{{- end -}}
{{- $own := include "ring.ownLabels" . | fromJsonArray -}}
{{- range $key, $found := dict "commonLabels" .Values.commonLabels "node.podLabels" .Values.node.podLabels -}}
  {{- range $label, $_ := ($found | default dict) -}}
    {{- if has $label $own -}}
      {{- $problems = append $problems (printf "%s: %s is the chart's own, its selectors go by it" $key $label) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $problems = concat $problems (include "ring.changes" . | fromJsonArray) -}}
{{- with $problems -}}
  {{- fail (printf "\n\nThese values cannot be installed:\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{/*
What Kubernetes refuses to change of a volume, after Helm has changed the rest. Takes {root, name (of the StatefulSet), key, storage};
a JSON list of words. `helm template` cannot look, and there nothing is refused.
*/}}
{{- define "ring.volumeChanges" -}}
{{- $problems := list -}}
{{- $storage := .storage -}}
{{- $key := .key -}}
{{- $found := lookup "apps/v1" "StatefulSet" .root.Release.Namespace .name | default dict -}}
{{- range (dig "spec" "volumeClaimTemplates" list $found) -}}
  {{- $size := dig "resources" "requests" "storage" "" .spec | toString -}}
  {{- if ne $size ($storage.size | toString) -}}
    {{- $problems = append $problems (printf "%s.size: %s has %s and these values %v, and Kubernetes does not change it: enlarge the claims (kubectl edit pvc), then delete the StatefulSet with --cascade=orphan and run this again" $key $found.metadata.name $size $storage.size) -}}
  {{- end -}}
  {{- $class := $storage.storageClass -}}
  {{- if and $class (ne $class (dig "storageClassName" $class .spec)) -}}
    {{- $problems = append $problems (printf "%s.storageClass: %s has %q, and Kubernetes does not change it" $key $found.metadata.name .spec.storageClassName) -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}

{{/* What stays as it was made while a ring runs, as a JSON list of words. */}}
{{- define "ring.changes" -}}
{{- $root := . -}}
{{- $problems := list -}}
{{- $record := lookup "v1" "ConfigMap" .Release.Namespace (printf "%s-mongod" (include "ring.fullname" .)) | default dict -}}
{{- with dig "metadata" "annotations" "shardmart/ring" "" $record -}}
  {{- range $key, $before := fromJson . -}}
    {{- if ne (int $before) (int (get $root.Values.ring $key)) -}}
      {{- $problems = append $problems (printf "ring.%s: the ring was made with %d and these values have %d: it stays as it was made, make another ring" $key (int $before) (int (get $root.Values.ring $key))) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $renamed := false -}}
{{- range (include "ring.servers" . | fromJsonArray) -}}
  {{- $name := include "ring.server" (dict "root" $root "name" .name) -}}
  {{- $found := lookup "apps/v1" "StatefulSet" $root.Release.Namespace $name | default dict -}}
  {{- $before := dig "spec" "selector" "matchLabels" "shardmart/ring-server" .name $found -}}
  {{- if and (ne $before .name) (not $renamed) -}}
    {{- $renamed = true -}}
    {{- $problems = append $problems (printf "ring.name: %s is node %q of the ring and would be %q: a ring cannot be renamed, put it back" $name $before .name) -}}
  {{- end -}}
  {{- $problems = concat $problems (include "ring.volumeChanges" (dict "root" $root "name" $name "key" "node.storage" "storage" $root.Values.node.storage) | fromJsonArray) -}}
{{- end -}}
{{- range (dig "items" list (lookup "apps/v1" "StatefulSet" .Release.Namespace "")) -}}
  {{- $labels := .metadata.labels | default dict -}}
  {{- if and (eq (dig "app.kubernetes.io/name" "" $labels) "ring") (eq (dig "app.kubernetes.io/instance" "" $labels) $root.Release.Name) (eq (dig "app.kubernetes.io/component" "" $labels) "store") (ne .metadata.name (printf "%s-store" (include "ring.fullname" $root))) -}}
    {{- $problems = append $problems (printf "fullnameOverride: this ring's membership is in %s, which these values would take away: put it back" .metadata.name) -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}
