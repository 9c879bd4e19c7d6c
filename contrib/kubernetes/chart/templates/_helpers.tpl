{{- define "app.selector" -}}
app.kubernetes.io/name: {{ .Release.Name }}
{{- end }}
