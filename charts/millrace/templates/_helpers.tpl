{{/* Name of the release's objects. */}}
{{- define "millrace.name" -}}
{{- $name := ternary .Release.Name (printf "%s-millrace" .Release.Name) (contains "millrace" .Release.Name) -}}
{{- $name | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "millrace.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "millrace.name" .) -}}
{{- end }}

{{/* What selects the operator's pods; it never changes. */}}
{{- define "millrace.selector" -}}
app.kubernetes.io/name: millrace-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "millrace.labels" -}}
{{ include "millrace.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: millrace
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* An image reference: (dict "image" … "chart" .Chart). */}}
{{- define "millrace.image" -}}
{{- with .image.registry }}{{ . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default $.chart.AppVersion }}{{ end -}}
{{- end }}

{{/* What the operator may do in each namespace it serves. No verb on Secrets, no `*`, nothing that it does not use: tests/tests/cluster_rights.rs compares. */}}
{{- define "millrace.rules" -}}
- apiGroups: [millrace.dev]
  resources: [pipelines, sources, sinks]
  verbs: [list, watch]
- apiGroups: [millrace.dev]
  resources: [pipelines/status, sources/status, sinks/status]
  verbs: [patch]
# What a Pipeline owns, written by server-side apply (create and patch); most of it goes with its owner, without us. RBAC cannot say "only with our label", so
# ConfigMaps of others can be read too.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# Documents of old revisions, the account that a user has replaced by another, and what probes needed, are removed.
- apiGroups: [""]
  resources: [configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# Pods are read for the state of workers. They are made, and removed again, for the one-shot check of a new revision and for probes of Sources
# and Sinks that no worker uses: both must run in the very image and identity that the workers will have.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Whom the roles are bound to. */}}
{{- define "millrace.subjects" -}}
- kind: ServiceAccount
  name: {{ include "millrace.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
