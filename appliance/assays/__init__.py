"""What is scored and how: one folder per assay."""
