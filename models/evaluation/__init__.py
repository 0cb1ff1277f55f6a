"""Evaluation of networks: figures with uncertainty, a simple baseline, a report. Torch-free."""
