"""From a slide to `Findings`: read `pipeline.py` first."""
