{{/*
The replica sets, config servers first, as a YAML array. Every template that goes over sets uses this list:
  {name, fullname, replicaSet, memberName, component, role, count, voters, members: [{priority, votes, hidden, tags}], zones, settings}
`settings` is `.Values.member` with the set's own `member` merged over it.
*/}}
{{- define "sharded-mongodb.sets" -}}
{{- $root := . -}}
{{- $sets := list (dict "declared" .Values.configServers "component" "config-server" "role" "configsvr") -}}
{{- range .Values.shards -}}
{{- $sets = append $sets (dict "declared" . "component" "shard" "role" "shardsvr") -}}
{{- end -}}
{{- range $sets }}
{{- $declared := .declared -}}
{{- $members := list -}}
{{- if kindIs "slice" $declared.members -}}
{{- $members = $declared.members -}}
{{- else -}}
{{- range until (int $declared.members) -}}{{- $members = append $members dict -}}{{- end -}}
{{- end -}}
{{- $full := list -}}
{{- $voters := 0 -}}
{{- range $members -}}
{{- $member := mergeOverwrite (dict "priority" 1 "votes" 1 "hidden" false "tags" dict) . -}}
{{- $full = append $full $member -}}
{{- $voters = add $voters (int $member.votes) -}}
{{- end }}
- name: {{ $declared.name | quote }}
  fullname: {{ printf "%s-%v" (include "sharded-mongodb.fullname" $root) $declared.name | quote }}
  replicaSet: {{ $declared.replicaSet | default (printf "%sReplSet" $declared.name) | quote }}
  memberName: {{ $declared.memberName | default (printf "%s-{n}" $declared.name) | quote }}
  component: {{ .component }}
  role: {{ .role }}
  count: {{ len $full }}
  voters: {{ $voters }}
  members: {{ toJson $full }}
  zones: {{ toJson ($declared.zones | default list) }}
  settings: {{ toJson (mergeOverwrite (deepCopy $root.Values.member) (deepCopy ($declared.member | default dict))) }}
{{- end }}
{{- end -}}

{{/* A Kubernetes quantity of memory in MiB: takes text or a number of bytes, gives a whole number. */}}
{{- define "sharded-mongodb.mebibytes" -}}
{{- $text := toString . -}}
{{- /* 2Gi, 4e9, 2.147483648e+09 (a number of YAML), 128974848000m: a number, an exponent or a unit, not both. */ -}}
{{- $number := regexFind "^[0-9.]+([eE][+-]?[0-9]+)?" $text -}}
{{- $unit := trimPrefix $number $text -}}
{{- $bytes := dict "" 1.0 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 -}}
{{- if or (not $number) (not (hasKey $bytes $unit)) -}}
{{- fail (printf "resources.limits.memory: %q is not a quantity of memory (such as 2Gi)" $text) -}}
{{- end -}}
{{- $number = $number | float64 -}}
{{- divf (mulf $number (get $bytes $unit)) 1048576.0 | floor | int64 -}}
{{- end -}}

{{/*
WiredTiger's cache in MiB: what is declared, else the server's own rule applied to the pod's memory limit instead of
the node's memory: half of what is above 1 GiB, at least 256 MiB (MongoDB manual, storage.wiredTiger.engineConfig.cacheSizeGB).
*/}}
{{- define "sharded-mongodb.cacheMB" -}}
{{- if .cacheSizeMB -}}{{ int .cacheSizeMB }}
{{- else -}}
{{- $limit := dig "limits" "memory" "" .resources -}}
{{- if $limit -}}
{{- max 256 (div (sub (include "sharded-mongodb.mebibytes" $limit | int64) 1024) 2) -}}
{{- else -}}256{{- end -}}
{{- end -}}
{{- end -}}

{{/*
mongod's configuration file. Takes {root, set}. `settings.config` is merged over it. The localhost exception is closed on
every set: the bootstrap makes the first user as `__system`, and a forwarded port comes from localhost. A set where nothing
is written notes the time every second (10 by default): until it has, mongos holds back every change stream's events.
*/}}
{{- define "sharded-mongodb.mongodConf" -}}
{{- $settings := .set.settings -}}
{{- $cache := divf (include "sharded-mongodb.cacheMB" $settings | float64) 1024.0 -}}
{{- $conf := dict
  "storage" (dict "dbPath" "/data/db" "wiredTiger" (dict "engineConfig" (dict "cacheSizeGB" $cache)))
  "net" (dict "port" (int .root.Values.port) "bindIpAll" true "unixDomainSocket" (dict "enabled" false))
  "replication" (dict "replSetName" .set.replicaSet)
  "sharding" (dict "clusterRole" .set.role)
  "security" (dict "keyFile" "/run/mongodb/keyfile" "authorization" "enabled")
  "setParameter" (dict "enableLocalhostAuthBypass" false "shutdownTimeoutMillisForSignaledShutdown" (mul 1000 (int $settings.quiesceSeconds)) "periodicNoopIntervalSecs" 1)
-}}
{{- if .root.Values.ipv6 }}{{ $_ := set $conf.net "ipv6" true }}{{ end -}}
{{- if .root.Values.tls.enabled -}}
{{- $_ := set $conf.net "tls" (dict "mode" .root.Values.tls.mode "certificateKeyFile" (printf "/etc/mongodb/tls/%s" .root.Values.tls.keys.pem) "CAFile" (printf "/etc/mongodb/tls/%s" .root.Values.tls.keys.ca) "allowConnectionsWithoutCertificates" true) -}}
{{- /* Clients and probes show no certificate; without this each of their connections is a warning in the log. */ -}}
{{- $_ := set $conf.setParameter "suppressNoTLSPeerCertificateWarning" true -}}
{{- end -}}
{{- toYaml (mergeOverwrite $conf (deepCopy ($settings.config | default dict))) -}}
{{- end -}}
