{{/*
A Job that makes Secrets where they are missing, before anything needs them, with what it needs for that. It runs in the cluster so that
no password ever passes through Helm; what is there is never changed but a certificate that ends soon, and uninstalling keeps them, as it
keeps the volumes. Takes {root, component, secrets (names of all), passwords (dict of name and users, or empty), tls (dict of name,
validityDays, renewDays and host, or empty)}.
*/}}
{{- define "shop.secretsJob" -}}
{{- $root := .root -}}
{{- $name := include "shop.name" . -}}
{{- $context := dict "root" $root "component" .component "settings" $root.Values.toolbox "serviceAccount" $name -}}
{{- $hook := dict "helm.sh/hook" "pre-install,pre-upgrade" "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" -}}
{{- $first := merge (dict "own" (merge (dict "helm.sh/hook-weight" "-20") $hook)) $context -}}
{{- $second := merge (dict "own" (merge (dict "helm.sh/hook-weight" "-19") $hook)) $context -}}
apiVersion: v1
kind: ServiceAccount
{{ include "shop.metadata" $first }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
{{ include "shop.metadata" $first }}
rules:
  # Kubernetes cannot limit "create" to a name.
  - apiGroups: [""]
    resources: [secrets]
    verbs: [create]
  - apiGroups: [""]
    resources: [secrets]
    resourceNames: {{ toJson .secrets }}
    verbs: [get, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
{{ include "shop.metadata" $second }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $name }}
    namespace: {{ $root.Release.Namespace | quote }}
{{- if $root.Values.networkPolicy.enabled }}
---
# In a namespace where nobody may connect anywhere by default.
{{ include "shop.networkPolicy" $second }}
{{- end }}
---
apiVersion: batch/v1
kind: Job
{{ include "shop.metadata" (merge (dict "own" (merge (dict "helm.sh/hook-weight" "-10") $hook)) $context) }}
spec:
  backoffLimit: 3
  activeDeadlineSeconds: 300
  template:
    metadata:
      {{- include "shop.podMetadata" $context | nindent 6 }}
    spec:
      {{- include "shop.podBasics" $context | replace "automountServiceAccountToken: false" "automountServiceAccountToken: true" | nindent 6 }}
      restartPolicy: Never
      containers:
        {{- include "shop.toolboxContainer" (dict "root" $root "name" "secrets" "command" "kubernetes-secrets") | nindent 8 }}
          args:
            - --application=shop
            - --instance={{ $root.Release.Name }}
            {{- with .passwords }}
            - --password-secret={{ .name }}
            {{- range .users }}
            - --user={{ . }}
            {{- end }}
            {{- end }}
            {{- with .tls }}
            {{- include "shop.certificateArguments" . | nindent 12 }}
            {{- end }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 64Mi}
{{- end -}}

{{/* A container of the toolbox's image; arguments and mounts follow. Takes {root, name, command}. */}}
{{- define "shop.toolboxContainer" -}}
- name: {{ .name }}
  image: {{ include "shop.image" .root.Values.toolbox.image | quote }}
  imagePullPolicy: {{ .root.Values.toolbox.image.pullPolicy }}
  command: [{{ .command }}]
  terminationMessagePolicy: FallbackToLogsOnError
  resources:
    {{- toYaml .root.Values.toolbox.resources | nindent 4 }}
  securityContext:
    {{- include "shop.containerSecurity" .root | nindent 4 }}
{{- end -}}

{{/*
The certificate of a part (cache, kafka, postgres) that is made and renewed in the cluster, as JSON of {part, name (of its
Secret), host, validityDays, renewDays}; empty where it has none, or a Secret is given. Takes {root, part}.
*/}}
{{- define "shop.madeCertificate" -}}
{{- $settings := (get .root.Values .part).tls -}}
{{- $made := dict -}}
{{- if and (has .part (include "shop.speaksTls" .root | fromJsonArray)) (not $settings.existingSecret) -}}
{{- $host := include (printf "shop.%sCertified" .part) .root -}}
{{- $made = merge (dict "part" .part "name" (include (printf "shop.%sTlsSecret" .part) .root) "host" $host) (pick $settings "validityDays" "renewDays") -}}
{{- end -}}
{{- toJson $made -}}
{{- end -}}

{{/* Names of the Secrets that hold it, as a JSON list; the second has the authority's key. Takes {root, part}. */}}
{{- define "shop.madeCertificateSecrets" -}}
{{- $made := include "shop.madeCertificate" . | fromJson -}}
{{- toJson (ternary (list $made.name (printf "%s-ca" $made.name)) list (not (empty $made))) -}}
{{- end -}}

{{/* Arguments of kubernetes-secrets for it: it makes what is missing and renews what ends soon, for the Job before an upgrade and the CronJob. */}}
{{- define "shop.certificateArguments" -}}
- --tls-secret={{ .name }}
- --validity-days={{ .validityDays }}
- --renew-days={{ .renewDays }}
- --dns-name={{ .host }}
{{- end -}}

{{/* Parts of this release whose servers speak TLS, as a JSON list. */}}
{{- define "shop.speaksTls" -}}
{{- $parts := list -}}
{{- if include "shop.cacheTls" . }}{{ $parts = append $parts "cache" }}{{ end -}}
{{- if and .Values.kafka.enabled .Values.cluster.tls.enabled }}{{ $parts = append $parts "kafka" }}{{ end -}}
{{- if include "shop.postgresTls" . }}{{ $parts = append $parts "postgres" }}{{ end -}}
{{- toJson $parts -}}
{{- end -}}

{{/* Those that the CronJob looks after, as a JSON list. */}}
{{- define "shop.rotated" -}}
{{- ternary (include "shop.speaksTls" .) "[]" .Values.rotation.enabled -}}
{{- end -}}
