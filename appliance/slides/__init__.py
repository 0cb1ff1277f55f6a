"""Pixels of a slide: open, decode, resample, find tissue and artefacts."""
