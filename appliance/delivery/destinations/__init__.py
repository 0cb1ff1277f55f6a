"""Where objects go: one file per kind of destination."""
