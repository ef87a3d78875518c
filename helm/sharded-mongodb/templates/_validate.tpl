{{/* The one place where values that a schema cannot judge are refused, all at once and in words. */}}
{{- define "sharded-mongodb.validate" -}}
{{- $problems := list -}}
{{- $sets := include "sharded-mongodb.sets" . | fromYamlArray -}}
{{- $names := list .Values.routers.name "toolbox" "bootstrap" "rotation" "secrets" "auth" "tls" "cluster" "scripts" "mongod" -}}
{{- $replicaSets := list -}}
{{- $served := list -}}
{{- range $index, $set := $sets -}}
  {{- $key := ternary "configServers" (printf "shards[%d]" (sub $index 1)) (eq $index 0) -}}
  {{- if has $set.name $names -}}
    {{- $problems = append $problems (printf "%s.name: %q is taken by another component or set" $key $set.name) -}}
  {{- end -}}
  {{- $names = append $names $set.name -}}
  {{- if has $set.replicaSet $replicaSets -}}
    {{- $problems = append $problems (printf "%s.replicaSet: %q is used twice" $key $set.replicaSet) -}}
  {{- end -}}
  {{- $replicaSets = append $replicaSets $set.replicaSet -}}
  {{- if gt (len (printf "%s-%d" $set.fullname (int $set.count))) 52 -}}
    {{- $problems = append $problems (printf "%s.name: pod names such as %s-1 are longer than 52 characters, shorten it or set fullnameOverride" $key $set.fullname) -}}
  {{- end -}}
  {{- if eq (mod (int $set.voters) 2) 0 -}}
    {{- $problems = append $problems (printf "%s.members: %d votes cannot break a tie, use an odd number" $key (int $set.voters)) -}}
  {{- end -}}
  {{- if gt (int $set.voters) 7 -}}
    {{- $problems = append $problems (printf "%s.members: %d votes, at most 7 members may vote" $key (int $set.voters)) -}}
  {{- end -}}
  {{- $electable := 0 -}}
  {{- range $position, $member := $set.members -}}
    {{- if gt (float64 $member.priority) 0.0 }}{{ $electable = add1 $electable }}{{ end -}}
    {{- if and (gt (float64 $member.priority) 0.0) (or (eq (int $member.votes) 0) $member.hidden) -}}
      {{- $problems = append $problems (printf "%s.members[%d]: a hidden member or one without a vote needs priority 0" $key $position) -}}
    {{- end -}}
  {{- end -}}
  {{- if eq (int $electable) 0 -}}
    {{- $problems = append $problems (printf "%s.members: no member with a priority above 0, nobody could become primary" $key) -}}
  {{- end -}}
  {{- range $set.zones -}}
    {{- $served = append $served . -}}
    {{- if not (has . $.Values.zones) -}}
      {{- $problems = append $problems (printf "%s.zones: unknown zone %q, zones has %s" $key . (join ", " $.Values.zones)) -}}
    {{- end -}}
  {{- end -}}
  {{- $cache := include "sharded-mongodb.cacheMB" $set.settings | int -}}
  {{- $limit := dig "limits" "memory" "" $set.settings.resources -}}
  {{- if $limit -}}
    {{- $mebibytes := include "sharded-mongodb.mebibytes" $limit | int -}}
    {{- if gt (mul 10 $cache) (mul 8 $mebibytes) -}}
      {{- $problems = append $problems (printf "%s: a cache of %d MiB does not fit the memory limit %s (at most 80%% of it)" $key $cache $limit) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range .Values.zones -}}
  {{- if not (has . $served) -}}
    {{- $problems = append $problems (printf "zones: no shard serves zone %q, its documents would have no home" .) -}}
  {{- end -}}
{{- end -}}
{{- if lt (int .Values.election.timeoutMs) (mul 2 .Values.election.heartbeatMs | int) -}}
  {{- $problems = append $problems "election.timeoutMs: must be at least twice election.heartbeatMs, or one late heartbeat elects" -}}
{{- end -}}
{{- $modelled := (include "sharded-mongodb.declared" . | fromJson).zones -}}
{{- range .Values.zones -}}
  {{- if not (has . $modelled) -}}
    {{- $problems = append $problems (printf "zones: the data model has no zone %q, it has %s" . (join ", " $modelled)) -}}
  {{- end -}}
{{- end -}}
{{- range $modelled -}}
  {{- if not (has . $.Values.zones) -}}
    {{- $problems = append $problems (printf "zones: %s of the data model is missing, its documents would have no home" .) -}}
  {{- end -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
  {{- if and (eq .Values.tls.issuer "existing") (not .Values.tls.existingSecret) -}}
    {{- $problems = append $problems "tls.existingSecret: issuer \"existing\" needs the name of a Secret" -}}
  {{- end -}}
  {{- if ge (int .Values.tls.renewDays) (int .Values.tls.validityDays) -}}
    {{- $problems = append $problems "tls.renewDays: must be less than tls.validityDays, or every run would renew" -}}
  {{- end -}}
  {{- if and .Values.tls.existingSecret (ne .Values.tls.issuer "existing") -}}
    {{- $problems = append $problems "tls.existingSecret: is used only with tls.issuer \"existing\"" -}}
  {{- end -}}
  {{- if and (eq .Values.tls.issuer "cert-manager") (not .Values.tls.certManager.issuerRef.name) -}}
    {{- $problems = append $problems "tls.certManager.issuerRef.name: issuer \"cert-manager\" needs it" -}}
  {{- end -}}
  {{- if and (eq .Values.tls.issuer "cert-manager") (ne .Values.tls.keys.pem "tls-combined.pem") -}}
    {{- $problems = append $problems "tls.keys.pem: cert-manager writes tls-combined.pem" -}}
  {{- end -}}
{{- end -}}
{{- $problems = concat $problems (include "sharded-mongodb.removals" (dict "root" . "sets" $sets) | fromYamlArray) -}}
{{- with $problems -}}
  {{- fail (printf "\n\nThese values cannot be installed:\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{/*
What the cluster has and the values no longer do: data would be lost, so it is refused until it was drained. Looks at
the StatefulSets that run; `helm template` cannot look, and there nothing is refused.
*/}}
{{- define "sharded-mongodb.removals" -}}
{{- $root := .root -}}
{{- $declared := dict -}}
{{- range .sets }}{{ $_ := set $declared .fullname (int .count) }}{{ end -}}
{{- $problems := list -}}
{{- $running := lookup "apps/v1" "StatefulSet" $root.Release.Namespace "" -}}
{{- range (dig "items" list $running) -}}
  {{- $labels := .metadata.labels | default dict -}}
  {{- if and (eq (dig "app.kubernetes.io/name" "" $labels) "sharded-mongodb") (eq (dig "app.kubernetes.io/instance" "" $labels) $root.Release.Name) (has (dig "app.kubernetes.io/component" "" $labels) (list "config-server" "shard")) -}}
    {{- if not (hasKey $declared .metadata.name) -}}
      {{- $problems = append $problems (printf "%s runs here and these values do not have it: its documents would be lost. Put it back; removing a shard needs draining, which this version cannot do" .metadata.name) -}}
    {{- else if gt (int .spec.replicas) (int (get $declared .metadata.name)) -}}
      {{- $problems = append $problems (printf "%s has %d members and these values only %d: fewer members are refused until they can be taken out of the set first" .metadata.name (int .spec.replicas) (int (get $declared .metadata.name))) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toYaml $problems -}}
{{- end -}}
