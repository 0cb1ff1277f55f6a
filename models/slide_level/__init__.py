"""Readers of whole IHC slides: tasks, cohorts, folds, systems, weights (arXiv 2503.22069)."""
