{{/* The one place where values that a schema cannot judge are refused, all at once and in words. */}}
{{- define "sharded-mongodb.validate" -}}
{{- $problems := list -}}
{{- $sets := include "sharded-mongodb.sets" . | fromYamlArray -}}
{{- $fullname := include "sharded-mongodb.fullname" . -}}
{{- if not (regexMatch "(?i)^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
  {{- $problems = append $problems (printf "the release's name %q begins the names of Services, which take lower-case letters, digits and dashes, and a letter first: set fullnameOverride" $fullname) -}}
{{- end -}}
{{- $own := include "sharded-mongodb.ownLabels" . | fromJsonArray -}}
{{- range $key, $labels := dict "commonLabels" .Values.commonLabels "member.podLabels" .Values.member.podLabels "routers.podLabels" .Values.routers.podLabels "routers.service.labels" .Values.routers.service.labels "toolbox.podLabels" .Values.toolbox.podLabels "chaos.engine.podLabels" .Values.chaos.engine.podLabels -}}
  {{- range $label, $_ := ($labels | default dict) -}}
    {{- if has $label $own -}}
      {{- $problems = append $problems (printf "%s: %s is the chart's own, its selectors go by it" $key $label) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $names := list .Values.routers.name "toolbox" "bootstrap" "rotation" "secrets" "auth" "tls" "cluster" "scripts" "mongod" "chaos" "loader" "test" -}}
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
  {{- range $label, $_ := ($set.settings.podLabels | default dict) -}}
    {{- if and (has $label $own) (not (hasKey ($.Values.member.podLabels | default dict) $label)) -}}
      {{- $problems = append $problems (printf "%s.member.podLabels: %s is the chart's own, its selectors go by it" $key $label) -}}
    {{- end -}}
  {{- end -}}
  {{- $cache := include "sharded-mongodb.cacheMB" $set.settings | int -}}
  {{- $limit := dig "limits" "memory" "" $set.settings.resources -}}
  {{- if $limit -}}
    {{- $mebibytes := include "sharded-mongodb.mebibytes" $limit | int -}}
    {{- if gt (mul 10 $cache) (mul 8 $mebibytes) -}}
      {{- $problems = append $problems (printf "%s: a cache of %d MiB does not fit the memory limit %v (at most 80%% of it)" $key $cache $limit) -}}
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
{{- $problems = concat $problems (include "sharded-mongodb.changes" (dict "root" . "sets" $sets) | fromYamlArray) -}}
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

{{/*
What cannot change while a cluster runs: what its members know each other by, and what Kubernetes refuses to change after it
has changed the rest. Compares with release.json and the StatefulSets that are there.
*/}}
{{- define "sharded-mongodb.changes" -}}
{{- $root := .root -}}
{{- $fullname := include "sharded-mongodb.fullname" $root -}}
{{- $problems := list -}}
{{- $described := lookup "v1" "ConfigMap" $root.Release.Namespace (printf "%s-cluster" $fullname) -}}
{{- $text := dig "data" "release.json" "" ($described | default dict) -}}
{{- if $text -}}
  {{- $running := fromJson $text -}}
  {{- $release := $running.release | default dict -}}
  {{- $advice := "its members know each other by it. Put it back, or make a new cluster and move the data" -}}
  {{- if ne (int $release.port) (int $root.Values.port) -}}
    {{- $problems = append $problems (printf "port: the cluster runs with %d and these values have %d: %s" (int $release.port) (int $root.Values.port) $advice) -}}
  {{- end -}}
  {{- if ne $release.cluster_domain $root.Values.clusterDomain -}}
    {{- $problems = append $problems (printf "clusterDomain: the cluster runs with %q and these values have %q: %s" $release.cluster_domain $root.Values.clusterDomain $advice) -}}
  {{- end -}}
  {{- range $index, $set := .sets -}}
    {{- range $running.sets -}}
      {{- if and (eq .name $set.name) (ne .replicaSet $set.replicaSet) -}}
        {{- $key := ternary "configServers" (printf "shards[%d]" (sub $index 1)) (eq $index 0) -}}
        {{- $problems = append $problems (printf "%s.replicaSet: %s runs as %q, and a replica set cannot be renamed" $key .name .replicaSet) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- /* Members that are restarted one by one must understand those that are not yet: one step at a time. */ -}}
  {{- $steps := list "disabled" "allowTLS" "preferTLS" "requireTLS" -}}
  {{- $before := ternary (dig "mode" "requireTLS" $running.tls) "disabled" (dig "enabled" false $running.tls) -}}
  {{- $after := ternary $root.Values.tls.mode "disabled" $root.Values.tls.enabled -}}
  {{- range $index, $step := $steps -}}
    {{- if eq $step $before -}}
      {{- range $other, $wanted := $steps -}}
        {{- if and (eq $wanted $after) (or (gt $other (add1 $index | int)) (lt $other (sub $index 1 | int))) -}}
          {{- $next := index $steps (ternary (add1 $index) (sub $index 1) (gt $other $index) | int) -}}
          {{- $problems = append $problems (printf "tls.mode: the cluster runs with %s, and members with %s could not speak to those not yet restarted: go by way of %s (a real mongos), or remove the release, keep its volumes, and install it with %s" $before $after $next $after) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $index, $set := .sets -}}
  {{- $key := ternary "configServers" (printf "shards[%d]" (sub $index 1)) (eq $index 0) -}}
  {{- $found := lookup "apps/v1" "StatefulSet" $root.Release.Namespace $set.fullname | default dict -}}
  {{- range (dig "spec" "volumeClaimTemplates" list $found) -}}
    {{- if eq .metadata.name "data" -}}
      {{- $size := dig "resources" "requests" "storage" "" .spec | toString -}}
      {{- if ne $size ($set.settings.storage.size | toString) -}}
        {{- $problems = append $problems (printf "%s: member.storage.size is %s where the cluster runs and %v in these values, and Kubernetes does not change it: enlarge the claims (kubectl edit pvc), then delete the StatefulSet with --cascade=orphan and run this again" $key $size $set.settings.storage.size) -}}
      {{- end -}}
      {{- $class := $set.settings.storage.storageClass -}}
      {{- if and $class (ne $class (dig "storageClassName" $class .spec)) -}}
        {{- $problems = append $problems (printf "%s: member.storage.storageClass is %q where the cluster runs, and Kubernetes does not change it" $key .spec.storageClassName) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toYaml $problems -}}
{{- end -}}
