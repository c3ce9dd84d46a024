{{- define "panoptes.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "panoptes.selector" -}}
app.kubernetes.io/name: panoptes
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "panoptes.labels" -}}
{{ include "panoptes.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}
