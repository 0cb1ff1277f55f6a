"""Benchmarks, run from a clone and as ``tandem bench``."""
