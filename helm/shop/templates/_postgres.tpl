{{/* PostgreSQL with the store or the catalogue's products: a pod of ours, or a server that is given. Who uses it, its Secrets, configuration. */}}

{{- define "shop.hasPostgres" -}}
{{- if or .Values.postgres.store .Values.postgres.catalogue }}yes{{ end -}}
{{- end -}}

{{- define "shop.runsPostgres" -}}
{{- if and (include "shop.hasPostgres" .) (not .Values.postgres.host) }}yes{{ end -}}
{{- end -}}

{{/* Ours speaks TLS and nothing else. */}}
{{- define "shop.postgresTls" -}}
{{- if and (include "shop.runsPostgres" .) .Values.cluster.tls.enabled .Values.postgres.tls.enabled }}yes{{ end -}}
{{- end -}}

{{/* Services whose data are in it, where the store is, as a JSON list. */}}
{{- define "shop.storeServices" -}}
{{- toJson (ternary (list "order" "inventory" "payment" "notification") list .Values.postgres.store) -}}
{{- end -}}

{{/* Components that connect to it, as a JSON list: services, and what makes tables and fills them. */}}
{{- define "shop.postgresClients" -}}
{{- $clients := include "shop.storeServices" . | fromJsonArray -}}
{{- if .Values.postgres.store }}{{ $clients = append $clients "migrate" }}{{ end -}}
{{- if .Values.postgres.catalogue }}{{ $clients = concat $clients (list "catalogue" "seed") }}{{ end -}}
{{- toJson $clients -}}
{{- end -}}

{{- define "shop.postgresHost" -}}
{{- .Values.postgres.host | default (printf "%s.%s.svc.%s" (include "shop.name" (dict "root" . "component" "postgres")) .Release.Namespace .Values.clusterDomain) -}}
{{- end -}}

{{- define "shop.postgresSecret" -}}
{{- .Values.postgres.authSecret | default (include "shop.name" (dict "root" . "component" "postgres")) -}}
{{- end -}}

{{- define "shop.postgresTlsSecret" -}}
{{- .Values.postgres.tls.existingSecret | default (include "shop.name" (dict "root" . "component" "postgres-tls")) -}}
{{- end -}}

{{/* Whether clients check its certificate by an authority that they mount: ours always, another one where its authority is given. */}}
{{- define "shop.postgresAuthority" -}}
{{- if or (include "shop.postgresTls" .) (and .Values.postgres.host .Values.postgres.tls.existingSecret (include "shop.hasPostgres" .)) }}yes{{ end -}}
{{- end -}}

{{/* Passwords in its Secret, as a JSON list of names: users', and the administrator's where the server is ours. */}}
{{- define "shop.postgresPasswords" -}}
{{- $names := list -}}
{{- if include "shop.runsPostgres" . }}{{ $names = append $names "shop-postgres" }}{{ end -}}
{{- if .Values.postgres.store }}{{ $names = concat $names (include "shop.storePasswords" . | fromJsonArray) }}{{ end -}}
{{- if .Values.postgres.catalogue }}{{ $names = append $names "shop-catalogue-postgres" }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{/* Those of the store's users; the ledger's is the toolbox's. */}}
{{- define "shop.storePasswords" -}}
{{- $names := list -}}
{{- range (append (include "shop.storeServices" . | fromJsonArray) "ledger") }}{{ $names = append $names (printf "shop-postgres-%s" .) }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{/* Whose name its certificate has. */}}
{{- define "shop.postgresCertified" }}{{ include "shop.postgresHost" . }}{{ end -}}

{{/* Secrets that are made in the cluster, as a JSON list of names. */}}
{{- define "shop.postgresMadeSecrets" -}}
{{- $made := list -}}
{{- if and (include "shop.hasPostgres" .) (not .Values.postgres.authSecret) }}{{ $made = append $made (include "shop.postgresSecret" .) }}{{ end -}}
{{- toJson (concat $made (include "shop.madeCertificateSecrets" (dict "root" . "part" "postgres") | fromJsonArray)) -}}
{{- end -}}

{{/* postgresql.conf; a unit test compares it with the embedded platform's (platforms/postgres/servers.py). */}}
{{- define "shop.postgresqlConf" -}}
listen_addresses = '*'
port = {{ .Values.postgres.port }}
{{ .Files.Get "files/postgresql.conf" -}}
{{- if include "shop.postgresTls" . }}
ssl = on
ssl_cert_file = '/etc/postgres/tls/server.pem'
ssl_key_file = '/etc/postgres/tls/server.pem'
{{- end }}
{{- range $name, $value := .Values.postgres.parameters }}
{{ $name }} = '{{ $value | toString | replace "'" "''" }}'
{{- end }}
{{- end -}}

{{/* pg_hba.conf: nobody comes in without a password, nor without TLS where it speaks it. */}}
{{- define "shop.postgresAccess" -}}
{{ ternary "hostssl" "host" (not (empty (include "shop.postgresTls" .))) }} all all all scram-sha-256
{{- end -}}

{{/* Where it is, for whoever connects, as JSON. */}}
{{- define "shop.postgresPlace" -}}
{{- $place := dict "host" (include "shop.postgresHost" .) "port" (int .Values.postgres.port) "flavour" .Values.postgres.flavour -}}
{{- if include "shop.postgresAuthority" . -}}
{{- $place = merge (dict "sslmode" "verify-full" "ca_file" "/etc/shop/postgres/ca.crt") $place -}}
{{- else -}}
{{- /* A server elsewhere is asked with TLS or not at all. */ -}}
{{- $_ := set $place "sslmode" (ternary "require" "prefer" (not (empty .Values.postgres.host))) -}}
{{- end -}}
{{- toJson $place -}}
{{- end -}}

{{/* The keys `store` and `postgres` of a service's settings, as JSON. Takes {root, component}. */}}
{{- define "shop.postgresSettings" -}}
{{- $file := dict -}}
{{- if has .component (include "shop.storeServices" .root | fromJsonArray) -}}
{{- $user := dict "user" (printf "shop_%s" .component) "password" (printf "{secret:shop-postgres-%s}" .component) "regions" .root.Values.cluster.regions -}}
{{- $_ := set $file "store" (merge $user (include "shop.postgresPlace" .root | fromJson)) -}}
{{- end -}}
{{- if and .root.Values.postgres.catalogue (eq .component "catalogue") -}}
{{- $_ := set $file "postgres" (merge (dict "password" "{secret:shop-catalogue-postgres}") (include "shop.postgresPlace" .root | fromJson)) -}}
{{- end -}}
{{- toJson $file -}}
{{- end -}}

{{/* Passwords in its Secret that a service mounts, as a JSON list of names. Takes {root, component}. */}}
{{- define "shop.postgresHeld" -}}
{{- $names := list -}}
{{- if has .component (include "shop.storeServices" .root | fromJsonArray) }}{{ $names = append $names (printf "shop-postgres-%s" .component) }}{{ end -}}
{{- if and .root.Values.postgres.catalogue (eq .component "catalogue") }}{{ $names = append $names "shop-catalogue-postgres" }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{/* What a command has besides: the administrator's password, and those of the users that it makes. Takes {root, component (the command)}. */}}
{{- define "shop.postgresAdministrator" -}}
{{- $root := .root -}}
{{- $names := ternary (without (include "shop.storePasswords" $root | fromJsonArray) "shop-postgres-order") list (eq .component "migrate") -}}
{{- if include "shop.runsPostgres" $root }}{{ $names = append $names "shop-postgres" }}{{ end -}}
{{- with $names -}}
- secret:
    name: {{ include "shop.postgresSecret" $root }}
    items:
      {{- range . }}
      - {key: {{ . }}.password, path: secrets/{{ . }}.password}
      {{- end }}
{{- end }}
{{- if $root.Values.postgres.host }}
- secret:
    name: {{ $root.Values.postgres.administrator.secret }}
    items:
      - {key: {{ $root.Values.postgres.administrator.key }}, path: secrets/shop-postgres.password}
{{- end }}
{{- end -}}

{{/* The pods that make and fill tables. Each takes {root, component}. */}}
{{- define "shop.migratePod" -}}
{{- $command := list "migrate" "--secrets=/etc/shop/secrets" (printf "--administrator=%s" .Values.postgres.administrator.user) "--json" -}}
{{- include "shop.commandPod" (dict "root" . "component" "migrate" "of" "order" "command" $command "administrator" true) -}}
{{- end -}}

{{- define "shop.seedPod" -}}
{{- $command := list "seed" "--json" -}}
{{- if .Values.postgres.catalogue -}}
{{- $command = concat $command (list (printf "--administrator=%s" .Values.postgres.administrator.user) "--postgres-password-file=/etc/shop/secrets/shop-postgres.password") -}}
{{- end -}}
{{- include "shop.commandPod" (dict "root" . "component" "seed" "of" "catalogue" "command" $command "administrator" .Values.postgres.catalogue) -}}
{{- end -}}

{{/* Values that do not go together, as a JSON list of words. */}}
{{- define "shop.postgresFaults" -}}
{{- $problems := list -}}
{{- $postgres := .Values.postgres -}}
{{- if and $postgres.store .Values.kafka.enabled -}}
{{- $problems = append $problems "kafka.enabled: has no use with postgres.store, where events are followed in the store: leave it out" -}}
{{- end -}}
{{- if and $postgres.catalogue (not .Values.cache.enabled) -}}
{{- $problems = append $problems "cache.enabled: postgres.catalogue reads stock from the cache: leave it on" -}}
{{- end -}}
{{- if and $postgres.catalogue (eq $postgres.flavour "cockroach") -}}
{{- $problems = append $problems "postgres.flavour: cockroach cannot be with postgres.catalogue, whose flavours are plain and citus" -}}
{{- end -}}
{{- if and (ne $postgres.flavour "plain") (not $postgres.host) -}}
{{- $problems = append $problems (printf "postgres.flavour: %s needs postgres.host, the address of such a server: the pod here is PostgreSQL, plain" $postgres.flavour) -}}
{{- end -}}
{{- if and (include "shop.hasPostgres" .) $postgres.host (not $postgres.administrator.secret) -}}
{{- $problems = append $problems "postgres.administrator.secret: postgres.host needs it, the Secret with the password of who makes tables and users there" -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}

{{/* What stays as it was made, and what would leave orders behind. A JSON list of words. */}}
{{- define "shop.postgresChanges" -}}
{{- $problems := list -}}
{{- $name := include "shop.name" (dict "root" . "component" "postgres") -}}
{{- if include "shop.runsPostgres" . -}}
{{- $problems = include "shop.volumeChanges" (dict "root" . "name" $name "key" "postgres.storage" "storage" .Values.postgres.storage) | fromJsonArray -}}
{{- end -}}
{{- if .Values.postgres.catalogue -}}
{{- $problems = concat $problems (include "shop.volumeChanges" (dict "root" . "name" (include "shop.name" (dict "root" . "component" "cache")) "key" "cache.storage" "storage" .Values.cache.storage) | fromJsonArray) -}}
{{- end -}}
{{- $there := lookup "v1" "ConfigMap" .Release.Namespace (include "shop.name" (dict "root" . "component" "settings")) | default dict -}}
{{- $order := index ($there.data | default dict) "order.json" | default "{}" | fromJson -}}
{{- if $order -}}
{{- $now := ternary "PostgreSQL" "MongoDB" (hasKey $order "store") -}}
{{- $then := ternary "PostgreSQL" "MongoDB" .Values.postgres.store -}}
{{- $again := printf "put it back; or begin anew there, with what was ordered left behind where it is: uninstall this release first, and delete the claim data-%s-cache-0 if there is one, whose stock is of these orders" (include "shop.fullname" .) -}}
{{- if ne $now $then -}}
{{- $problems = append $problems (printf "postgres.store: the orders of this shop are in %s, these values say %s, and they are not moved: %s" $now $then $again) -}}
{{- else if .Values.postgres.store -}}
{{- $ours := hasPrefix (printf "%s." $name) $order.store.host -}}
{{- if ne $ours (empty .Values.postgres.host) -}}
{{- $problems = append $problems (printf "postgres.host: the orders of this shop are on %s, these values say %s, and they are not moved: %s" $order.store.host (include "shop.postgresHost" .) $again) -}}
{{- else if and $ours (ne (eq $order.store.sslmode "verify-full") (not (empty (include "shop.postgresTls" .)))) -}}
{{- $problems = append $problems (printf "postgres.tls.enabled: services run whose PostgreSQL speaks %s, and would lose it until each is restarted: put it back, or uninstall this release first; its volume stays" (ternary "TLS" "no TLS" (eq $order.store.sslmode "verify-full"))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}
