"""Assays: what is scored and how, one folder each."""
