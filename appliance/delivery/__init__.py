"""From `Findings` to DICOM objects that are proven to be in the archive."""
