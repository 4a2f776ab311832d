{{/* Name of everything that the chart makes: the release's, with -operator. */}}
{{- define "meridian.name" -}}
{{- $release := .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- printf "%s-operator" $release -}}
{{- end -}}

{{- define "meridian.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "meridian.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The labels by which members' network policies know the operator: operator/resources/network-policies.ts. */}}
{{- define "meridian.selector" -}}
app.kubernetes.io/name: meridian
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "meridian.labels" -}}
{{ include "meridian.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "meridian.programsImage" -}}
{{- default (printf "meridian/programs:%s" .Chart.AppVersion) .Values.images.programs -}}
{{- end -}}

{{- define "meridian.postgresImage" -}}
{{- default (printf "meridian/postgres:%s" .Chart.AppVersion) .Values.images.postgres -}}
{{- end -}}

{{/* What every container of ours runs with. */}}
{{- define "meridian.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "meridian.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}
