"""Intake: a changed file in the scanner's folder becomes an identified slide of a case."""
