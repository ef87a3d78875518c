{{/* The one place where values that a schema cannot judge are refused, all at once and in words. */}}
{{- define "fragments.validate" -}}
{{- $problems := list -}}
{{- $fullname := include "fragments.fullname" . -}}
{{- if not (regexMatch "(?i)^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
  {{- $problems = append $problems (printf "the release's name %q begins the names of Services, which take lower-case letters, digits and dashes, and a letter first: set fullnameOverride" $fullname) -}}
{{- end -}}
{{- range list "APJ" "EMEA" "LATAM" -}}
  {{- if not (has . $.Values.regions) -}}
    {{- $problems = append $problems (printf "regions: %s is missing, where a price fragment lives" .) -}}
  {{- end -}}
{{- end -}}
{{- $names := dict -}}
{{- range .Values.regions -}}
  {{- $name := include "fragments.nodeName" (dict "root" $ "region" .) -}}
  {{- if has (lower . | replace "_" "-") (list "configuration" "repair" "bootstrap" "secrets" "test" "auth" "tls") -}}
    {{- $problems = append $problems (printf "regions: %s is called like an object of this chart" .) -}}
  {{- end -}}
  {{- with get $names $name -}}
    {{- $problems = append $problems (printf "regions: the objects of two of them would both be called %s" $name) -}}
  {{- end -}}
  {{- $_ := set $names $name "taken" -}}
{{- end -}}
{{- $own := include "fragments.ownLabels" . | fromJsonArray -}}
{{- range $key, $found := dict "commonLabels" .Values.commonLabels "node.podLabels" .Values.node.podLabels "toolbox.podLabels" .Values.toolbox.podLabels -}}
  {{- range $label, $_ := ($found | default dict) -}}
    {{- if has $label $own -}}
      {{- $problems = append $problems (printf "%s: %s is the chart's own, its selectors go by it" $key $label) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $name, $_ := .Values.node.parameters -}}
  {{- if has $name (list "listen_addresses" "port" "wal_level" "max_prepared_transactions" "config_file" "hba_file" "data_directory" "unix_socket_directories" "ssl" "ssl_cert_file" "ssl_key_file") -}}
    {{- $problems = append $problems (printf "node.parameters: %s is the chart's own" $name) -}}
  {{- end -}}
{{- end -}}
{{- $problems = concat $problems (include "fragments.changes" . | fromJsonArray) -}}
{{- with $problems -}}
  {{- fail (printf "\n\nThese values cannot be installed:\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{/*
What Kubernetes refuses to change of a volume, after Helm has changed the rest. Takes {root, name (of the StatefulSet), key, storage};
a JSON list of words. `helm template` cannot look, and there nothing is refused.
*/}}
{{- define "fragments.volumeChanges" -}}
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

{{/* What a region server cannot be changed to while it runs, as a JSON list of words. */}}
{{- define "fragments.changes" -}}
{{- $root := . -}}
{{- $problems := list -}}
{{- $names := list -}}
{{- range .Values.regions -}}
  {{- $name := include "fragments.nodeName" (dict "root" $root "region" .) -}}
  {{- $names = append $names $name -}}
  {{- $problems = concat $problems (include "fragments.volumeChanges" (dict "root" $root "name" $name "key" "node.storage" "storage" $root.Values.node.storage) | fromJsonArray) -}}
{{- end -}}
{{- range (dig "items" list (lookup "apps/v1" "StatefulSet" .Release.Namespace "")) -}}
  {{- $labels := .metadata.labels | default dict -}}
  {{- if and (eq (dig "app.kubernetes.io/name" "" $labels) "fragments") (eq (dig "app.kubernetes.io/instance" "" $labels) $root.Release.Name) (not (has .metadata.name $names)) -}}
    {{- $problems = append $problems (printf "regions: %s runs here with the rows of its region, and these values do not have it: put it back" .metadata.name) -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}
