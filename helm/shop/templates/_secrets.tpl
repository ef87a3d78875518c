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
        - name: secrets
          image: {{ include "shop.image" $root.Values.toolbox.image | quote }}
          imagePullPolicy: {{ $root.Values.toolbox.image.pullPolicy }}
          command: [kubernetes-secrets]
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
            - --tls-secret={{ .name }}
            - --validity-days={{ .validityDays }}
            - --renew-days={{ .renewDays }}
            - --dns-name={{ .host }}
            {{- end }}
          resources:
            {{- toYaml $root.Values.toolbox.resources | nindent 12 }}
          securityContext:
            {{- include "shop.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 64Mi}
{{- end -}}
