{{/* The one place where values that a schema cannot judge are refused, all at once and in words. */}}
{{- define "shop.validate" -}}
{{- $problems := list -}}
{{- $fullname := include "shop.fullname" . -}}
{{- if not (regexMatch "(?i)^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
  {{- $problems = append $problems (printf "the release's name %q begins the names of Services, which take lower-case letters, digits and dashes, and a letter first: set fullnameOverride" $fullname) -}}
{{- end -}}
{{- $own := include "shop.ownLabels" . | fromJsonArray -}}
{{- $labels := dict "commonLabels" .Values.commonLabels "pod.podLabels" .Values.pod.podLabels "cache.podLabels" .Values.cache.podLabels "kafka.podLabels" .Values.kafka.podLabels "postgres.podLabels" .Values.postgres.podLabels -}}
{{- $taken := list "secrets_folder" "tokens" "urls" "mongodb" "store" "postgres" "kafka" "cache" "redis_url" "ring_settings" "smtp" "provider" "data_folder" "instances" "drain_seconds" -}}
{{- $settings := dict "pod" .Values.pod.settings -}}
{{- range $name, $service := .Values.services -}}
  {{- $_ := set $labels (printf "services.%s.podLabels" $name) $service.podLabels -}}
  {{- $_ := set $settings (printf "services.%s" $name) $service.settings -}}
  {{- $merged := include "shop.settingsOf" (dict "root" $ "component" $name) | fromYaml -}}
  {{- if le (int $merged.terminationGracePeriodSeconds) (int $merged.drainSeconds) -}}
    {{- $problems = append $problems (printf "services.%s: terminationGracePeriodSeconds (%d) must be longer than drainSeconds (%d), or requests in hand are cut" $name (int $merged.terminationGracePeriodSeconds) (int $merged.drainSeconds)) -}}
  {{- end -}}
  {{- if and $merged.autoscaling.enabled (gt (int $merged.autoscaling.minReplicas) (int $merged.autoscaling.maxReplicas)) -}}
    {{- $problems = append $problems (printf "services.%s: autoscaling.minReplicas is more than maxReplicas" $name) -}}
  {{- end -}}
{{- end -}}
{{- if ne (empty .Values.mail.user) (empty .Values.mail.secret) -}}
  {{- $problems = append $problems "mail.user and mail.secret go together: who logs in, and the Secret with that one's password" -}}
{{- end -}}
{{- range $key, $found := $labels -}}
  {{- range $label, $_ := ($found | default dict) -}}
    {{- if has $label $own -}}
      {{- $problems = append $problems (printf "%s: %s is the chart's own, its selectors go by it" $key $label) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $key, $found := $settings -}}
  {{- range $name, $_ := ($found | default dict) -}}
    {{- if has $name $taken -}}
      {{- $problems = append $problems (printf "%s.settings: %s is the chart's own%s" $key $name (ternary ", and what Helm is given it stores" "" (has $name (list "tokens" "mongodb" "store" "postgres" "kafka" "redis_url" "provider")))) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $problems = concat $problems (include "shop.volumeChanges" (dict "root" . "name" (include "shop.name" (dict "root" . "component" "provider")) "key" "services.provider.storage" "storage" .Values.services.provider.storage) | fromJsonArray) -}}
{{- range $part := list "cache" "kafka" "postgres" -}}
  {{- $tls := (get $.Values $part).tls -}}
  {{- if ge (int $tls.renewDays) (int $tls.validityDays) -}}
    {{- $problems = append $problems (printf "%s.tls.renewDays: must be less than %s.tls.validityDays, or every upgrade would renew" $part $part) -}}
  {{- end -}}
{{- end -}}
{{- $problems = concat $problems (include "shop.kafkaChanges" . | fromJsonArray) (include "shop.postgresFaults" . | fromJsonArray) (include "shop.postgresChanges" . | fromJsonArray) -}}
{{- with $problems -}}
  {{- fail (printf "\n\nThese values cannot be installed:\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{/*
What Kubernetes refuses to change of a volume, after Helm has changed the rest. Takes {root, name (of the StatefulSet), key, storage};
a JSON list of words. `helm template` cannot look, and there nothing is refused.
*/}}
{{- define "shop.volumeChanges" -}}
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
