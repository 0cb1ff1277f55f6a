"""Judging networks: figures with their uncertainty, a plain baseline, and a report. Torch-free."""
