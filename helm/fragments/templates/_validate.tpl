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
{{- with $problems -}}
  {{- fail (printf "\n\nThese values cannot be installed:\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}
