"""The command ``tandem``: `main.py` first."""
