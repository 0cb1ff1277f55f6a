"""Training, evaluation, calibration and export of the three networks."""
