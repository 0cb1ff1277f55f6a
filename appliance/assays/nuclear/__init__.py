"""Assays of nuclear receptors: what ER and PR share."""
