"""Evaluation of the appliance with known truth: on pairs of slides, on single tiles."""
