"""Data sets: tiles with labels, split by patient, with a checksum of every file."""
