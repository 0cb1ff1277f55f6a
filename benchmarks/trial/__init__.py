"""Trials of the line: a daemon of its own, fed by the simulated scanner, and judged."""
