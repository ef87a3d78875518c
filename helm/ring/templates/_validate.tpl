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
{{- with $problems -}}
  {{- fail (printf "\n\nThese values cannot be installed:\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}
