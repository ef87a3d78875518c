{{/* Kafka's brokers: who uses them, their names, Secrets, configuration. Each is broker and controller at once (KRaft). */}}

{{/* Services that handle events, where these are on Kafka, as a JSON list. */}}
{{- define "shop.eventServices" -}}
{{- toJson (ternary (list "order" "inventory" "payment" "notification") list .Values.kafka.enabled) -}}
{{- end -}}

{{/* Domain of the brokers' own names. */}}
{{- define "shop.kafkaDomain" -}}
{{- printf "%s.%s.svc.%s" (include "shop.name" (dict "root" . "component" "kafka")) .Release.Namespace .Values.clusterDomain -}}
{{- end -}}

{{/* The brokers' names, as a JSON list. */}}
{{- define "shop.kafkaHosts" -}}
{{- $hosts := list -}}
{{- range $n := untilStep 1 (int (add1 .Values.kafka.brokers)) 1 -}}
{{- $hosts = append $hosts (printf "%s-%d.%s" (include "shop.name" (dict "root" $ "component" "kafka")) $n (include "shop.kafkaDomain" $)) -}}
{{- end -}}
{{- toJson $hosts -}}
{{- end -}}

{{/* The brokers' addresses for services, as a JSON list. */}}
{{- define "shop.kafkaAddresses" -}}
{{- $addresses := list -}}
{{- range (include "shop.kafkaHosts" . | fromJsonArray) -}}
{{- $addresses = append $addresses (printf "%s:%d" . (int $.Values.kafka.port)) -}}
{{- end -}}
{{- toJson $addresses -}}
{{- end -}}

{{/* Where controllers listen: so far above the brokers as on one machine. */}}
{{- define "shop.controllerPort" -}}
{{- add .Values.kafka.port 10 -}}
{{- end -}}

{{- define "shop.kafkaSecret" -}}
{{- .Values.kafka.authSecret | default (include "shop.name" (dict "root" . "component" "kafka")) -}}
{{- end -}}

{{- define "shop.kafkaTlsSecret" -}}
{{- .Values.kafka.tls.existingSecret | default (include "shop.name" (dict "root" . "component" "kafka-tls")) -}}
{{- end -}}

{{/* Files in the Secret, without their ending, as a JSON list. */}}
{{- define "shop.kafkaPasswords" -}}
{{- $names := list "shop-kafka" -}}
{{- range (include "shop.eventServices" . | fromJsonArray) }}{{ $names = append $names (printf "shop-kafka-%s" .) }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{/* Whose name the brokers' certificate has: each's. */}}
{{- define "shop.kafkaCertified" }}*.{{ include "shop.kafkaDomain" . }}{{ end -}}

{{/* Secrets that are made in the cluster, as a JSON list of names. */}}
{{- define "shop.kafkaMadeSecrets" -}}
{{- $made := list -}}
{{- if and .Values.kafka.enabled (not .Values.kafka.authSecret) }}{{ $made = append $made (include "shop.kafkaSecret" .) }}{{ end -}}
{{- toJson (concat $made (include "shop.madeCertificateSecrets" (dict "root" . "part" "kafka") | fromJsonArray)) -}}
{{- end -}}

{{/*
Id of Kafka's cluster: 16 bytes in 22 characters. It follows from the release, so it is the same for every broker and after every
restart, and a volume of another release is refused by Kafka itself.
*/}}
{{- define "shop.kafkaCluster" -}}
{{- printf "%s/%s" .Release.Namespace (include "shop.name" (dict "root" . "component" "kafka")) | sha256sum | trunc 21 }}A
{{- end -}}

{{/* What is the same for every broker; a unit test compares it with the embedded platform's (platforms/embedded_kafka/brokers.py). */}}
{{- define "shop.brokerProperties" -}}
{{- $copies := int .Values.kafka.brokers -}}
{{- $protocol := ternary "SASL_SSL" "SASL_PLAINTEXT" .Values.cluster.tls.enabled -}}
{{- $voters := list -}}
{{- range $n, $host := (include "shop.kafkaHosts" . | fromJsonArray) -}}
{{- $voters = append $voters (printf "%d@%s:%s" (add1 $n) $host (include "shop.controllerPort" $)) -}}
{{- end -}}
{{ .Files.Get "files/broker.properties" -}}
controller.quorum.voters={{ join "," $voters }}
listeners=CLIENT://:{{ .Values.kafka.port }},CONTROLLER://:{{ include "shop.controllerPort" . }}
listener.security.protocol.map=CLIENT:{{ $protocol }},CONTROLLER:{{ $protocol }}
log.dirs=/data/log
min.insync.replicas={{ max 1 (sub $copies 1) }}
default.replication.factor={{ $copies }}
offsets.topic.replication.factor={{ $copies }}
transaction.state.log.replication.factor={{ $copies }}
transaction.state.log.min.isr={{ max 1 (sub $copies 1) }}
share.coordinator.state.topic.replication.factor={{ $copies }}
{{- if .Values.cluster.tls.enabled }}
ssl.keystore.type=PEM
ssl.keystore.location=/etc/kafka/tls/tls.pem
ssl.truststore.type=PEM
ssl.truststore.location=/etc/kafka/tls/ca.crt
{{- end }}
{{- end -}}

{{/* The key `kafka` of a service's settings, as JSON. Takes {root, component}. */}}
{{- define "shop.kafkaSettings" -}}
{{- $name := printf "shop-kafka-%s" .component -}}
{{- $kafka := dict "brokers" (include "shop.kafkaAddresses" .root | fromJsonArray) "user" (printf "shop-%s" .component) "password" (printf "{secret:%s}" $name) "replicas" (int .root.Values.kafka.brokers) -}}
{{- if .root.Values.cluster.tls.enabled }}{{ $_ := set $kafka "ca_file" "/etc/shop/kafka/ca.crt" }}{{ end -}}
{{- toJson $kafka -}}
{{- end -}}

{{/* What stays as it was made: Kubernetes does not change a volume, and Kafka not who its voters are. A JSON list of words. */}}
{{- define "shop.kafkaChanges" -}}
{{- $problems := list -}}
{{- $name := include "shop.name" (dict "root" . "component" "kafka") -}}
{{- if .Values.kafka.enabled -}}
{{- $problems = include "shop.volumeChanges" (dict "root" . "name" $name "key" "kafka.storage" "storage" .Values.kafka.storage) | fromJsonArray -}}
{{- $claim := lookup "v1" "PersistentVolumeClaim" .Release.Namespace (printf "data-%s-1" $name) | default dict -}}
{{- $there := dig "metadata" "labels" "shardmart/brokers" "" $claim -}}
{{- if and $there (ne $there (toString .Values.kafka.brokers)) -}}
{{- $problems = append $problems (printf "kafka.brokers: the volumes of %s are of %s, these values say %v, and a quorum's voters stay as they were made: put it back; or first leave Kafka (kafka.enabled: false), delete the claims data-%s-*, and come back" $name $there .Values.kafka.brokers $name) -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}
