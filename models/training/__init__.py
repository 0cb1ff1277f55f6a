"""Data sets, loops, evaluation and export of the three networks."""
