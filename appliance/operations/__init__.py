"""What IT runs: doctor, status, corrections, weights."""
