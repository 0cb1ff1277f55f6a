"""Whose slide it is: names, stains, and the evidence of all sources."""
