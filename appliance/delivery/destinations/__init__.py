"""Destinations of objects: one file per kind."""
