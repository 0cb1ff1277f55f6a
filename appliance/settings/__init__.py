"""Settings: one TOML file plus environment."""
