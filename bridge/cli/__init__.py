"""The one program `insula`: verbs by noun. The only place that imports both the bridge and the executor."""
